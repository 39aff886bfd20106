"""Small tokenizers, trained in a moment on a few sentences."""

import string
from typing import TYPE_CHECKING

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from dolly_assets.tokenization.prompt_style import PromptStyle

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CORPUS = [
    PromptStyle().prompt("Name a colour of the sky.", "The sky is blue."),
    PromptStyle().completion("It is blue."),
    "What is the opposite of hot? It is cold. Tell me a story about the forest and the trees.",
    "Input: one, two\n\nResponse: End the Instruction with ### or #### and \n\n\n lines  "
    "and  spaces.",
]


def byte_level_tokenizer(**special_tokens: str) -> "PreTrainedTokenizerFast":
    """The family of GPT-2, GPT-J, Pythia and Llama 3."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return _trained(backend, pre_tokenizers.ByteLevel.alphabet(), special_tokens)


def sentencepiece_tokenizer(prepend_scheme: str) -> "PreTrainedTokenizerFast":
    """The kind of Llama 2: a space precedes the text, or each piece between special tokens."""
    backend = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme, split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme=prepend_scheme)
    tokenizer = _trained(
        backend, list(string.printable), {"bos_token": "<s>", "unk_token": "<unk>"}
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.convert_tokens_to_ids("<s>"))]
    )
    return tokenizer


def _trained(
    backend: Tokenizer, alphabet: list[str], special_tokens: dict[str, str]
) -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    special_tokens = {"eos_token": "<|endoftext|>", **special_tokens}
    backend.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=list(special_tokens.values()),
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special_tokens)


def with_style(
    tokenizer: "PreTrainedTokenizerFast", style: PromptStyle
) -> "PreTrainedTokenizerFast":
    """Add the style's special tokens, as a published base model has them."""
    tokenizer.add_special_tokens({"additional_special_tokens": list(style.special_tokens)})
    return tokenizer
