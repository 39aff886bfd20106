"""Models with random weights, each with a byte-level BPE tokenizer trained on a few texts."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import BaseModelError
from dolly_assets.training.base_model.config import UntrainedModel
from dolly_assets.training.base_model.load import reason
from dolly_assets.training.base_model.special_tokens import round_up_rows

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

# The token that the tokenizer begins and ends texts with, as GPT-2's does.
_END_OF_TEXT = "<|endoftext|>"


def build(
    untrained: UntrainedModel, special_tokens: Sequence[str], texts: Iterable[str]
) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    """Build a model with random weights, and a tokenizer that has the special tokens already.

    Raises:
        BaseModelError: The configuration does not describe a causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = _train_tokenizer(texts, untrained.vocabulary_size, special_tokens)
    end_of_text = tokenizer.convert_tokens_to_ids(_END_OF_TEXT)
    config = _model_config(
        untrained.config,
        vocab_size=round_up_rows(len(tokenizer)),
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
    )
    torch.manual_seed(untrained.seed)
    try:
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False), tokenizer
    except Exception as error:  # each architecture rejects bad sizes in its own way
        raise BaseModelError(
            f"untrained.config: no causal language model can be built from it ({reason(error)})"
        ) from error


def _model_config(values: dict[str, Any], **derived: Any) -> "PretrainedConfig":
    """Build the transformers configuration, and refuse values that the architecture ignores."""
    from transformers import AutoConfig, __version__

    model_type = values["model_type"]
    try:
        defaults = AutoConfig.for_model(model_type)
    except ValueError as error:
        raise BaseModelError(
            f"untrained.config: transformers {__version__} has no model_type {model_type!r}; "
            "use one that it has, such as gpt2"
        ) from error
    try:
        config = AutoConfig.for_model(**(values | derived))
    except Exception as error:  # the strict dataclasses of huggingface_hub raise their own errors
        raise BaseModelError(
            f"untrained.config: not a {model_type} configuration ({reason(error)})"
        ) from error
    # A name that no field, alias or older spelling accepts ends up as an attribute that nothing
    # reads.
    if stray := sorted((config.to_dict().keys() - defaults.to_dict().keys()) & values.keys()):
        raise BaseModelError(
            f"untrained.config: a {model_type} configuration has no {', '.join(stray)}"
        )
    return config


def _train_tokenizer(
    texts: Iterable[str], vocabulary_size: int, special_tokens: Sequence[str]
) -> "PreTrainedTokenizerFast":
    """Train a byte-level BPE tokenizer as GPT-2's; it spells any text without an unknown token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(dict.fromkeys([_END_OF_TEXT, *special_tokens])),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=_END_OF_TEXT, eos_token=_END_OF_TEXT
    )
