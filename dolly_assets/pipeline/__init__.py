"""What a command does with an environment: a session on it, and the pipeline that trains.

Knows families, the store and Dagster's runs; commands and their texts are `cli`'s. Modules are
imported one by one: `session` and `declared` do without Dagster, the others need it.

- `session`: an environment opened for work.
- `declared`: the families and datasets that YAML declares.
- `pipeline`: from a dataset's name to compared epochs, materializing only what is out of date.
- `rollout`: a Deployment that serves a model restarts when the model has changed.
- `replay`: trains a published epoch again, and compares.
- `runs`: the Dagster instance, and runs in this process.
- `dagster_home`: the folder of the Dagster instance, with its settings.
- `yaml_errors`: why YAML does not load, on one line.
"""
