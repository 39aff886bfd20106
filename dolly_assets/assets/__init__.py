"""The assets and checks of Dagster, one module per asset or group of checks.

A module defines how Dagster shows and computes an asset. What an asset is, and what the store holds
of it, is in `registry/`; what assets share on Dagster's side is in `dagster_support/`.

- `raw_dataset.py`, `tokenized_dataset.py`, `base_model.py`: the data and the model.
- `training_plan.py`, `training_approval.py`: whether a training fits, and may start.
- `model_checkpoint.py`: the epochs of a fine-tune, with `gpu_profile`.
- `training_profile.py`: one report over all epochs.
- `evaluation.py`, `suite_scores.py`, `sample_responses.py`: scores and samples of each epoch.
- `judgement.py`: what a language model prefers, an epoch's answers or the base model's.
- `epoch_comparison.py`, `champion_model.py`: which epoch is best, and whether it is promoted;
  `contest.py`: the epochs against the champion, as the store holds them.
- `champion_export.py`: the champion as folders that other programs load, and the check of each.
- `quality_checks.py`, `profile_checks.py`, `template_checks.py`, `score_checks.py`,
  `suite_checks.py`, `judgement_checks.py`: checks of datasets, of profiles, of what published
  models are prompted with, of scores, of suites and of a judge's preference; `epoch_checks.py`:
  what checks by epoch share.
"""
