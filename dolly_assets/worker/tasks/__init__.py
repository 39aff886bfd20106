"""The tasks of a worker: each takes artifacts, calls one library and publishes the result.

They know artifacts and libraries, neither Dagster nor how the worker was started.

- `prepare_base_model.py`: the family's base model as a folder of plain weights.
- `tokenize.py`: raw examples as labelled token ids, with a held-out split.
- `train.py`: fine-tuning over a range of epochs.
- `evaluate.py`: scores of checkpoints on a held-out split.
- `score_suites.py`: scores of checkpoints on a family's suites.
- `export.py`: the champion in the formats that other programs load.
- `sample.py`: answers of checkpoints to the family's prompts.
"""
