"""Exporting: a model as a folder that other programs load, with nothing of this package.

It knows folders of weights, templates and tokenizers; it knows nothing of the store, or of how a
model was trained. What is written is proven by asking it: its answers are those of the model.

- `model.py`: what is exported; `settings.py`: how.
- `exporter.py`: a model in one of the formats, written and compared; the class to use.
- `folder.py`: a folder that is written whole or not at all.
- `huggingface.py`: the format `hf`, whole weights, as transformers and vLLM load them.
- `older_readers.py`: configurations that earlier versions of transformers read alike.
- `lora.py`: the format `lora`, an adapter with its base model, as peft loads them.
- `gguf_file.py`: the format `gguf`, one file, as llama.cpp loads it.
- `gguf_architectures.py`, `gguf_vocabulary.py`: architectures and tokenizers as GGUF states them.
- `gguf_reading.py`: the tensors of such a file, read back.
- `llama_cpp.py`: llama.cpp's own answers, where it is installed.
- `ollama.py`: the format `ollama`, such a file with a Modelfile; `go_template.py`: its template.
- `answers.py`: whether an export answers as its model does.
"""

from dolly_assets.exporting.answers import Agreement
from dolly_assets.exporting.model import ExportedModel
from dolly_assets.exporting.settings import Export

__all__ = ["Agreement", "Export", "ExportedModel"]
