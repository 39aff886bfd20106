"""What an artifact is: its address, kind and attributes, and what the store holds of each kind.

The one place that knows names of assets and of their inputs. It reads the store and describes; it
knows neither Dagster nor how an asset is computed. Modules are imported one by one, since some need
Arrow and most do not.

- `address`: where an artifact belongs, and its name, partition and key.
- `kinds`: the table of the kinds: inputs, partitioning, settings, attributes.
- `attributes`: the attributes that the manifests of each kind contain.
- `inputs`: what an artifact was made from.
- `named`: the artifact that a user names.
- `queries`: artifacts by address, and a training with its scores.
- `currency`: whether an artifact is up to date.
- `training`: what the store has of a training, and what is left to train.
- `raw_datasets`: whether a raw dataset still is what its source holds.
- `tokenized_datasets`: publishes them; the same examples keep their digest.
- `quality_reports`: stored findings of quality checks.
- `judgements`: which answers a judge compares, and what it was asked before.
- `suite_scores`: the scores of models on suites, and what of them can be reused.
- `suite_tables`: these scores as tables for people; `suite_losses`: what of them was lost.
- `profiles`: the profiles of a training.
- `stages`: the models in candidate, staging and production, and their history.
- `gates`: what a model must fulfil besides a better score.
- `promotion`: promotes models and rolls them back.
- `pages`: which file of an artifact is a page for browsers.
- `published_templates`: whether models carry the chat template of their data.
- `estimate`: whether a training fits, how long it takes and what it costs.
- `model_folders`: the folders from which a checkpoint is loaded.
- `record_losses`: the records that stand out by their loss in a training.
- `exports`: what is exported, the prompts that it is asked, and former exports.
- `record_holders`: which datasets hold a record; `exposure`: which models learnt from it.
- `forgetting`: what it takes to forget a record; `remedies`: what can take its models' place.
- `lineage`: the records, code, recipe and devices behind an artifact.
- `status`: the inventory of epochs.
"""
