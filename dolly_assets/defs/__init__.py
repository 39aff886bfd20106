"""The declared datasets, and one folder per model family; YAML only."""
