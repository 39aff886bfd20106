"""From encoded prompts to answers: the only caller of `generate`.

Sampling, scoring and chatting use it. It knows prompts only as token ids.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dolly_assets.generation.batches import batches_within

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.generation.streamers import BaseStreamer


def answer(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    *,
    end_token_ids: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    streamer: "BaseStreamer | None" = None,
) -> list[str]:
    """Return the answers to a batch of encoded prompts.

    Args:
        model: A causal language model; its mode, training or evaluation, is restored afterwards.
        tokenizer: The model's own.
        prompts: Token ids as `Encoder.prompt` returns them, of any lengths.
        end_token_ids: The tokens that end an answer, besides the tokenizer's own end of sequence.
        max_new_tokens: Length of the longest answer in tokens.
        temperature: 0 is greedy; higher values sample from torch's global random numbers.
        top_p: Share of the probability that is sampled from (nucleus sampling).
        streamer: Gets the tokens as they are generated; for a single prompt only.

    Returns:
        The answers without special tokens, stripped.
    """
    import torch
    from transformers import GenerationConfig

    width = max(map(len, prompts))
    # An end token also pads: on the left it is masked, on the right decoding drops it.
    pad, own_end = end_token_ids[0], tokenizer.eos_token_id
    padded = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in prompts])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])
    stops = dict.fromkeys([*end_token_ids, *([] if own_end is None else [own_end])])
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
    config = GenerationConfig(
        do_sample=bool(sampling),
        max_new_tokens=max_new_tokens,
        eos_token_id=[*stops],
        pad_token_id=pad,
        **sampling,
    )
    was_training = model.training
    model.eval()
    try:
        generated = model.generate(  # pyright: ignore[reportCallIssue]
            padded.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            streamer=streamer,
        )
    finally:
        model.train(was_training)
    texts = tokenizer.batch_decode(
        generated[:, width:], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return [text.strip() for text in texts]


def answers_in_batches(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    *,
    end_token_ids: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
) -> list[str]:
    """Return the greedy answers to any number of encoded prompts, in their order.

    Args:
        model: As in `answer`.
        tokenizer: As in `answer`.
        prompts: As in `answer`.
        end_token_ids: As in `answer`.
        max_new_tokens: As in `answer`.
        batch_size: How many prompts to answer at once.
    """
    texts = [""] * len(prompts)
    for rows in batches_within([len(ids) for ids in prompts], batch_size):
        answers = answer(
            model,
            tokenizer,
            [prompts[row] for row in rows],
            end_token_ids=end_token_ids,
            max_new_tokens=max_new_tokens,
        )
        for row, text in zip(rows, answers, strict=True):
            texts[row] = text
    return texts
