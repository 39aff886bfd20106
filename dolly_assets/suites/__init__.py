"""Suites: records with prompts, on which every epoch of a family and its base model are scored.

It knows files of records and loaded models; it knows nothing of the store, or of families.

- `settings.py`: what a family's YAML declares.
- `records.py`: the records of a JSONL file, and what is wrong with them.
- `instructions.py`: instructions that can be verified from an answer's text.
- `scorers.py`: how right an answer is.
- `encoding.py`: records as token ids, within a model's context.
- `run.py`: a model on the records of a suite.
- `task_files.py`: tasks of lm-evaluation-harness that are YAML files, with their data.
- `harness.py`: a model on the tasks of lm-evaluation-harness.
- `results.py`: the table of what was scored, and the scores that follow from it.
- `contamination.py`: records that the training data holds, too.
- `general.jsonl`: the bundled suite `general`, by which forgetting is measured.
"""

from dolly_assets.suites.settings import GENERAL, Suite, SuiteName

__all__ = ["GENERAL", "Suite", "SuiteName"]
