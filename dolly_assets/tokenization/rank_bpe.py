"""tiktoken in the place of a tokenizer's own encoder, several times faster, where both provably give the same ids.

It knows byte-level BPE and pre-tokenizers of the kind of GPT-2's; of everything else it says that
it does not.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# What `ByteLevel` of tokenizers splits at, as GPT-2 published it (https://github.com/openai/gpt-2,
# src/encoder.py).
GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PLAIN_BPE = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "byte_fallback": False,
    "ignore_merges": False,
}


class RankEncoder:
    """Encodes text as `backend` does, its added tokens that are not special included.

    tiktoken joins any neighbours whose bytes together are a token, the token of lowest rank first;
    BPE joins listed pairs, the first of the list first. With the list as the ranks both are the
    same if for every token, of its bytes alone, joining by the pairs before its own ends in its own
    pair: what happens between two ends that nothing has joined across does not depend on what is
    beyond them. `_own_pairs_hold` checks that for all tokens.
    """

    def __init__(
        self, backend: "Tokenizer", ranks: dict[bytes, int], id_of_rank: np.ndarray
    ) -> None:
        import tiktoken

        added = {
            token.content: token_id for token_id, token in _added_as_text_splits(backend).items()
        }
        specials = {content: len(id_of_rank) + place for place, content in enumerate(added)}
        self._id_of_rank = np.concatenate(
            [id_of_rank, np.fromiter(added.values(), np.int32, len(added))]
        )
        self._lacking = np.array([value for value in range(256) if id_of_rank[value] < 0])
        self._specials = set(specials)
        self._tiktoken = tiktoken.Encoding(
            "ranks", pat_str=GPT2_WORDS, mergeable_ranks=ranks, special_tokens=specials
        )

    @classmethod
    def of(cls, backend: "Tokenizer") -> "RankEncoder | None":
        """The encoder for a tokenizer whose special tokens are text, or None where equality is not proven."""
        description = json.loads(backend.to_str())
        model = description["model"]
        is_known = (
            all((model.get(key) or None) == (value or None) for key, value in PLAIN_BPE.items())
            and description["normalizer"] is None
            and _is_gpt2s(description["pre_tokenizer"])
            and all(_splits_plainly(token) for token in _added_as_text_splits(backend).values())
        )
        if not is_known:
            return None
        byte_of = {char: value for value, char in enumerate(_byte_characters())}
        vocabulary, pairs = model["vocab"], [tuple(pair) for pair in model["merges"]]
        ranks = {bytes([value]): value for value in range(256)}
        for left, right in pairs:
            ranks.setdefault(bytes(byte_of[char] for char in left + right), len(ranks))
        if len(ranks) != 256 + len(pairs):
            return None  # a token that is listed twice
        id_of_rank = np.array(
            [vocabulary.get(char, -1) for char in byte_of]
            + [vocabulary[left + right] for left, right in pairs],
            np.int32,
        )
        parts = [ranks[bytes(byte_of[char] for char in part)] for pair in pairs for part in pair]
        holds = _own_pairs_hold(np.array(parts, np.int64).reshape(-1, 2))
        return cls(backend, ranks, id_of_rank) if holds else None

    def encode(self, text: str) -> np.ndarray | None:
        """Ids (int32, one dimension); None where the text must be left to the tokenizer itself."""
        if len(self._lacking):
            counts = np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=256)
            if counts[self._lacking].any():
                return None
        try:
            ranks = self._tiktoken.encode_to_numpy(
                text, allowed_special=self._specials, disallowed_special=()
            )
        except (
            ValueError
        ):  # some 100,000 white spaces in a row are too much for its regular expressions
            return None
        return self._id_of_rank[ranks]


def _own_pairs_hold(parts: np.ndarray) -> bool:
    """Whether every token's own pair, of ranks (left, right), is what is left of its bytes before it is joined.

    Token 256 + i is joined from `parts[i]`. Joining is undone, the last step first, on both sides
    of the place where the pair meets: while these two neighbours lay there, no token may have been
    joined across, that is, none of a lower rank than the step that made one of them part of
    something. Of steps of equal rank the left one came first.
    """
    if (parts >= np.arange(256, 256 + len(parts))[:, None]).any():
        return False  # a pair before its parts
    left_of, right_of = (np.concatenate([np.full(256, -1), side]) for side in parts.T)
    keys = parts[:, 0] << 32 | parts[:, 1]
    order = np.argsort(keys)
    sorted_keys = keys[order]
    left, right = parts[:, 0], parts[:, 1]
    limit = np.arange(
        256, 256 + len(parts)
    )  # across, a token of a rank below it would have been joined
    while len(left):
        pair = left << 32 | right
        place = np.minimum(np.searchsorted(sorted_keys, pair), len(sorted_keys) - 1)
        joined = np.where(sorted_keys[place] == pair, 256 + order[place], np.iinfo(np.int64).max)
        if (joined < limit).any():
            return False
        is_open = (left >= 256) | (right >= 256)
        left, right = left[is_open], right[is_open]
        undo_left = np.where(left >= 256, left, -1) > np.where(right >= 256, right, -1)
        limit = np.where(undo_left, left, right + 1)
        left, right = (
            np.where(undo_left, right_of[left], left),
            np.where(undo_left, right, left_of[right]),
        )
    return True


def _byte_characters() -> str:
    """The characters that stand for the bytes 0 to 255 in byte-level BPE: printable ones for themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return "".join(chr(value if value in printable else next(others)) for value in range(256))


def _is_gpt2s(pre_tokenizer: dict[str, Any] | None) -> bool:
    wanted = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    return pre_tokenizer is not None and {key: pre_tokenizer.get(key) for key in wanted} == wanted


def _added_as_text_splits(backend: "Tokenizer") -> dict[int, Any]:
    """The added tokens that split a text also where special tokens are text."""
    return {
        token_id: token
        for token_id, token in backend.get_added_tokens_decoder().items()
        if not token.special
    }


def _splits_plainly(token: Any) -> bool:
    return not (token.lstrip or token.rstrip or token.single_word or token.normalized)
