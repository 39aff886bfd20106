"""The prompt style's special tokens: added to the tokenizer, and given rows in the embeddings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# Rows are added in multiples of 64: with an odd number of rows the largest matrix product of all
# could not use the tensor cores.
# https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication/index.html
_EMBEDDING_ROWS_MULTIPLE = 64
_NEW_ROWS_SEED = 0
_PAD = "<|pad|>"


def add_special_tokens(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", special_tokens: Sequence[str]
) -> None:
    """Add the tokens to tokenizer and model, and choose a padding token that ends no answer.

    Args:
        model: Its embeddings grow where needed, and its configurations are updated.
        tokenizer: The model's own.
        special_tokens: The tokens to add; the one that ends an answer first.
    """
    add_to_tokenizer(tokenizer, special_tokens)
    fit(model, tokenizer, [tokenizer.get_vocab()[special_tokens[0]]])


def add_to_tokenizer(tokenizer: "PreTrainedTokenizerFast", special_tokens: Sequence[str]) -> None:
    """Add special tokens to a tokenizer alone."""
    new = [token for token in special_tokens if token not in tokenizer.all_special_tokens]
    tokenizer.add_special_tokens({"extra_special_tokens": new}, replace_extra_special_tokens=False)


def fit(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", end_token_ids: Sequence[int]
) -> None:
    """Fit a model to its tokenizer, and choose a padding token that ends no answer.

    Args:
        model: Its embeddings grow where needed, and its configurations are updated.
        tokenizer: The model's own, which gets a padding token if it has none.
        end_token_ids: What ends an answer: the model stops there when it generates, and nowhere
            else.
    """
    from transformers import GenerationConfig

    ends = [tokenizer.convert_ids_to_tokens(end) for end in end_token_ids]
    if tokenizer.pad_token in (None, *ends):
        tokenizer.add_special_tokens({"pad_token": _padding(tokenizer, ends)})
    _grow_embeddings(model, len(tokenizer))
    # In the configuration too: some architectures mask the gradients of the padding row, and a
    # checkpoint that is loaded again has to train as this model does.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end_token_ids[0] if len(end_token_ids) == 1 else [*end_token_ids],
        pad_token_id=tokenizer.pad_token_id,
    )


def _padding(tokenizer: "PreTrainedTokenizerFast", ends: Sequence[object]) -> str:
    """Return a token for padding: one that the tokenizer has, if any can be spared."""
    reserved = [str(token) for token in tokenizer.all_special_tokens if "pad" in str(token)]
    known = (tokenizer.eos_token, *reserved, tokenizer.unk_token)
    return next((str(token) for token in known if token not in (None, *ends)), _PAD)


def embedding_rows(model: "PreTrainedModel") -> int:
    """Return the number of rows of a model's input embeddings."""
    return model.get_input_embeddings().get_parameter("weight").shape[0]


def round_up_rows(tokens: int) -> int:
    """Return the number of embedding rows for a vocabulary, a multiple of 64."""
    return -(-tokens // _EMBEDDING_ROWS_MULTIPLE) * _EMBEDDING_ROWS_MULTIPLE


def _grow_embeddings(model: "PreTrainedModel", tokens: int) -> None:
    """Add rows near the mean of the old ones, the same in every call; keep existing spare rows."""
    import torch

    if tokens > embedding_rows(model):
        torch.manual_seed(_NEW_ROWS_SEED)
        model.resize_token_embeddings(round_up_rows(tokens))
