"""Exporting: a model as a folder that other programs load, with nothing of this package.

It knows folders of weights, templates and tokenizers; it knows nothing of the store, or of how a
model was trained. What is written is proven by asking it: its answers are those of the model.

- `model.py`: what is exported.
- `huggingface.py`: whole weights, as transformers and vLLM load them.
- `older_readers.py`: configurations that earlier versions of transformers read alike.
"""

from dolly_assets.exporting.model import ExportedModel

__all__ = ["ExportedModel"]
