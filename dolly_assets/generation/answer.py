"""From encoded prompts to answers: the only caller of `generate`.

Sampling, scoring and chatting use it. It knows prompts only as token ids.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from dolly_assets.generation.batches import batches_within
from dolly_assets.generation.continuous import continued
from dolly_assets.generation.sampling import NoisyLogits, Sampling

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.generation.streamers import BaseStreamer

Batching = Literal["static", "continuous"]


def answer(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    *,
    end_token_ids: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    streamer: "BaseStreamer | None" = None,
) -> list[str]:
    """Return the answers to a batch of encoded prompts.

    Args:
        model: A causal language model; its mode, training or evaluation, is restored afterwards.
        tokenizer: The model's own.
        prompts: Token ids as `Encoder.prompt` returns them, of any lengths.
        end_token_ids: The tokens that end an answer, besides the tokenizer's own end of sequence.
        max_new_tokens: Length of the longest answer in tokens.
        sampling: How tokens are drawn; None decodes greedily.
        streamer: Gets the tokens as they are generated; for a single prompt only.

    Returns:
        The answers without special tokens, stripped.
    """
    generated = _generated(
        model, tokenizer, prompts, end_token_ids, max_new_tokens, sampling, streamer
    )
    return _texts(tokenizer, generated)  # pyright: ignore[reportArgumentType] a tensor, too


def answer_ids(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    *,
    end_token_ids: Sequence[int],
    max_new_tokens: int,
) -> list[list[int]]:
    """Return the greedy answers to a batch of prompts as token ids, each through what ended it.

    Args:
        model: As in `answer`.
        tokenizer: As in `answer`.
        prompts: As in `answer`.
        end_token_ids: As in `answer`.
        max_new_tokens: As in `answer`.
    """
    generated = _generated(model, tokenizer, prompts, end_token_ids, max_new_tokens, None, None)
    own_end: Any = tokenizer.eos_token_id
    ends = {*end_token_ids, own_end}
    rows: list[list[int]] = generated.tolist()
    return [
        row[: next((at + 1 for at, token in enumerate(row) if token in ends), len(row))]
        for row in rows
    ]


def _generated(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    end_token_ids: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling | None,
    streamer: "BaseStreamer | None",
) -> "torch.Tensor":
    """Return what follows the prompts of a batch, padded behind what ended it."""
    import torch
    from transformers import LogitsProcessorList

    width = max(map(len, prompts))
    # An end token also pads: on the left it is masked, on the right decoding drops it.
    pad = end_token_ids[0]
    padded = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in prompts])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])
    processors = LogitsProcessorList([NoisyLogits(sampling)] if sampling else [])
    was_training = model.training
    model.eval()
    try:
        generated = model.generate(  # pyright: ignore[reportCallIssue]
            padded.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=_config(tokenizer, end_token_ids, max_new_tokens),
            logits_processor=processors,
            streamer=streamer,
        )
    finally:
        model.train(was_training)
    return generated[:, width:]


def answers_in_batches(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    *,
    end_token_ids: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
    batching: Batching = "static",
    sampling: Sampling | None = None,
) -> list[str]:
    """Return the answers to any number of encoded prompts, in their order.

    Args:
        model: As in `answer`.
        tokenizer: As in `answer`.
        prompts: As in `answer`.
        end_token_ids: As in `answer`.
        max_new_tokens: As in `answer`.
        batch_size: How many prompts to answer at once.
        batching: Whether a batch is answered as a whole, or an answered prompt makes room for the
            next one. What is sampled is answered in static batches.
        sampling: As in `answer`.

    Raises:
        ConfigurationError: The model cannot answer with continuous batching.
    """
    if batching == "continuous" and prompts and not sampling:
        config = _config(tokenizer, end_token_ids, max_new_tokens)
        return _texts(tokenizer, continued(model, prompts, config, batch_size=batch_size))
    texts = [""] * len(prompts)
    for rows in batches_within([len(ids) for ids in prompts], batch_size):
        answers = answer(
            model,
            tokenizer,
            [prompts[row] for row in rows],
            end_token_ids=end_token_ids,
            max_new_tokens=max_new_tokens,
            sampling=sampling and sampling.of(rows),
        )
        for row, text in zip(rows, answers, strict=True):
            texts[row] = text
    return texts


def stop_tokens(tokenizer: "PreTrainedTokenizerBase", end_token_ids: Sequence[int]) -> list[int]:
    """Return the tokens at which an answer ends, the tokenizer's own end of sequence included."""
    own_end: Any = tokenizer.eos_token_id
    return [*dict.fromkeys([*end_token_ids, *([] if own_end is None else [own_end])])]


def _config(
    tokenizer: "PreTrainedTokenizerBase", end_token_ids: Sequence[int], max_new_tokens: int
) -> "GenerationConfig":
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=stop_tokens(tokenizer, end_token_ids),
        pad_token_id=end_token_ids[0],
    )


def _texts(tokenizer: "PreTrainedTokenizerBase", generated: Iterable[Sequence[int]]) -> list[str]:
    texts = tokenizer.batch_decode(
        generated,  # pyright: ignore[reportArgumentType] a tensor, too
        skip_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    return [text.strip() for text in texts]
