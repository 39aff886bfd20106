"""Continuous batching: a prompt that is answered makes room for the next one at once.

It is transformers' own, with pages of keys and values:
https://huggingface.co/docs/transformers/continuous_batching.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.text import one_line

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

_PAGE_TOKENS = 64
_STEP_TOKENS = 1024  # of prompts and answers that a step computes


def continued(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    config: "GenerationConfig",
    *,
    batch_size: int,
) -> list[list[int]]:
    """Return the tokens that a model appends to each prompt, greedily.

    Args:
        model: A causal language model.
        prompts: Token ids, of any lengths.
        config: With `max_new_tokens` and the end tokens.
        batch_size: The most prompts that are answered at once.

    Raises:
        ConfigurationError: The model's attention cannot be computed in pages.
    """
    from transformers import ContinuousBatchingConfig

    longest = max(map(len, prompts)) + (config.max_new_tokens or 0)
    # Twice, since layers with a sliding window have pages of their own.
    pages = 2 * batch_size * (math.ceil(longest / _PAGE_TOKENS) + 1)
    paging = ContinuousBatchingConfig(
        page_size=_PAGE_TOKENS,
        num_blocks=pages,
        max_batch_tokens=max(_STEP_TOKENS, batch_size),
        max_requests_per_batch=batch_size,
    )
    try:
        found = model.generate_batch(  # pyright: ignore[reportCallIssue]
            [list(ids) for ids in prompts],
            generation_config=config,
            continuous_batching_config=paging,
        )
    except (ValueError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise ConfigurationError(_refused(model, one_line(error))) from error
    failed = next((each.error for each in found.values() if each.error), None)
    if failed or len(found) < len(prompts):
        raise ConfigurationError(_refused(model, str(failed or "not all were answered")))
    return [list(each.generated_tokens) for each in found.values()]


def _refused(model: "PreTrainedModel", why: str) -> str:
    return (
        f"{type(model).__name__} cannot answer with continuous batching: {why}; set "
        "evaluation.batching to static"
    )
