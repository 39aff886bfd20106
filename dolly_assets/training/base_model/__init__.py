"""Base models: whatever a family names becomes one folder of plain weights with its tokenizer.

It knows the Hub, local folders, GGUF files and untrained models; it knows only the special tokens
of a prompt style, and nothing of training or of the store.

- `config.py`: what a family's YAML states about its base model.
- `prepare.py`: from that to a folder that can be fine-tuned; the function to use.
- `check.py`: what a model has to be before it is prepared.
- `load.py`: models and tokenizers from the Hub, a folder or a GGUF file.
- `untrained.py`: models with random weights, and tokenizers trained on a few texts.
- `chat_template.py`: the chat template that it carries, with the tokens that this needs.
- `special_tokens.py`: the prompt style's tokens, in the tokenizer and in the embeddings.
"""

from dolly_assets.training.base_model.config import BaseModelConfig, UntrainedModel
from dolly_assets.training.base_model.prepare import prepare

__all__ = ["BaseModelConfig", "UntrainedModel", "prepare"]
