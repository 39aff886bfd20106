"""Which examples are held out from training. It knows texts, not tokens."""

from collections.abc import Iterable

import numpy as np

from dolly_assets.core.hashing import json_digest


def held_out_mask(
    prompts: Iterable[tuple[str, str]], *, held_out_examples: int, seed: int
) -> np.ndarray:
    """Choose the held-out rows by their prompts.

    Rows with the same prompt go to the same side, so no held-out prompt occurs in training. Prompts
    are taken in the order of SHA-256 over seed and prompt, until `held_out_examples` rows are
    reached. The place of a prompt depends on nothing else, so added records hardly change the
    split.

    Args:
        prompts: The prompt of each row, as `conversations.tables.prompts` yields it.
        held_out_examples: How many rows to hold out, at least.
        seed: Seed of the split.

    Returns:
        A bool per row, true where held out.
    """
    rows_by_prompt: dict[tuple[str, str], list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_by_prompt.setdefault(prompt, []).append(row)

    held_out: list[int] = []
    for prompt in sorted(rows_by_prompt, key=lambda prompt: json_digest([seed, *prompt])):
        if len(held_out) >= held_out_examples:
            break
        held_out += rows_by_prompt[prompt]
    mask = np.zeros(sum(map(len, rows_by_prompt.values())), dtype=bool)
    mask[held_out] = True
    return mask
