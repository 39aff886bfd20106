"""The components of the project, in YAML."""
