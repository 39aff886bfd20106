"""Which files of a model's folder are published: those that loaders read, and no others.

An allow-list of names. It knows transformers, peft and tokenizers by the files that they write;
whatever else lies in a folder, scripts and pickles among it, is left out. It opens no file.
"""

import re

_SHARD = r"(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?"
# What tokenizers load from: tokenizer.json holds everything; the other files are what slower
# tokenizers, and tokenizers that were converted from them, write beside it.
_TOKENIZER = (
    r"tokenizer(_config)?\.json",
    r"special_tokens_map\.json",
    r"added_tokens\.json",
    r"chat_template\.jinja",
    r"additional_chat_templates/[\w.-]+\.jinja",
    r"vocab\.(json|txt)",
    r"merges\.txt",
    r"(tokenizer|spiece|spm|sentencepiece(\.bpe)?)\.model",
)
_MODEL = re.compile(
    "|".join((rf"model{_SHARD}", r"config\.json", r"generation_config\.json", *_TOKENIZER))
)
_ADAPTER = re.compile("|".join((rf"adapter_model{_SHARD}", r"adapter_config\.json", *_TOKENIZER)))


def is_model_file(path: str) -> bool:
    """Return whether loaders of whole models read this file, by its path in the model's folder."""
    return _MODEL.fullmatch(path) is not None


def is_adapter_file(path: str) -> bool:
    """Return whether loaders of LoRA adapters read this file, by its path in their folder."""
    return _ADAPTER.fullmatch(path) is not None
