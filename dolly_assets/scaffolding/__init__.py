"""New model families: from a base model and GPUs to a commented YAML that fits them by the plan.

It knows configurations, plans and what a family's YAML declares; it knows nothing of the store, of
Dagster, or of which families exist.

- `new_family.py`: the YAML of a new family; the module to use.
- `bases.py`: the sizes of a base model, from a folder, the Hub or the list of known ones.
- `known_bases.yaml`: base models that are known without a connection.
- `choice.py`: how to train it: precision, ZeRO stage, full or LoRA, micro-batch.
"""

from dolly_assets.scaffolding.bases import known_bases
from dolly_assets.scaffolding.new_family import NewFamily, write_family

__all__ = ["NewFamily", "known_bases", "write_family"]
