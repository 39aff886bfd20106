"""Which examples are held out from training. It knows texts, not tokens."""

from collections.abc import Iterable

import numpy as np

from dolly_assets.core.hashing import json_digest

_DIGEST_BYTES = 16  # by which prompts are told apart


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
    digests = bytearray()
    for prompt in prompts:
        digests += bytes.fromhex(json_digest([seed, *prompt]))[:_DIGEST_BYTES]
    keys = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    is_first = np.any(np.diff(keys[order], axis=0, prepend=~keys[order[:1]]) != 0, axis=1)
    begins = np.append(np.flatnonzero(is_first), len(order))
    mask = np.zeros(len(order), dtype=bool)
    enough = np.searchsorted(begins, min(held_out_examples, len(order)))
    mask[order[: begins[enough]]] = True
    return mask
