"""tiktoken in place of a tokenizer's own encoder, where both provably give the same ids.

It is several times faster. It supports byte-level BPE whose words `word_patterns.py` knows, as the
models since GPT-2 have it, and leaves everything else to the tokenizer itself. It knows nothing of
prompts and markers.
"""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from dolly_assets.tokenization.added_tokens import AddedTokens
from dolly_assets.tokenization.merge_ranks import last_pairs
from dolly_assets.tokenization.word_patterns import word_pattern

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PLAIN_BPE = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "byte_fallback": False,
}
# Characters of text that are worth a thread of their own.
MIN_PART_CHARACTERS = 200_000
_LACKING, _SEPARATOR = -1, -2


class RankEncoder:
    """Encodes texts as a tokenizer does without adding tokens around them.

    Words, merges and added tokens are equal each for itself: see `word_patterns.py`,
    `merge_ranks.py` and `added_tokens.py`.
    """

    def __init__(
        self, added: AddedTokens, pattern: str, ranks: dict[bytes, int], id_of_rank: np.ndarray
    ) -> None:
        import tiktoken

        self._words = pattern, ranks, id_of_rank
        characters = [added.separator, *added.characters]
        specials = {character: len(ranks) + place for place, character in enumerate(characters)}
        self._added = added
        self._id_of_rank = np.concatenate(
            [id_of_rank, [_SEPARATOR], np.fromiter(added.characters.values(), np.int32)]
        ).astype(np.int32)
        self._specials = set(specials)
        self._tiktoken = tiktoken.Encoding(
            "ranks", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials
        )

    @classmethod
    def of(cls, backend: "Tokenizer") -> "RankEncoder | None":
        """Return the encoder for a tokenizer, or None where equality is not proven.

        Args:
            backend: The tokenizer, which may treat special tokens as text.
        """
        description = json.loads(backend.to_str())
        model, pattern = description["model"], word_pattern(description["pre_tokenizer"])
        is_plain = all(
            (model.get(key) or None) == (value or None) for key, value in PLAIN_BPE.items()
        )
        added = AddedTokens.of(backend) if pattern and is_plain else None
        if not added or not pattern:
            return None
        ranked = _ranked(model)
        return cls(added, pattern, *ranked) if ranked else None

    def with_tokens_of(self, backend: "Tokenizer") -> "RankEncoder | None":
        """Return the encoder for a tokenizer that differs in its added tokens alone, or None."""
        added = AddedTokens.of(backend)
        return RankEncoder(added, *self._words) if added else None

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the ids of all texts, int32, and where each begins, and the last one ends.

        Returns None where the tokenizer itself has to encode.
        """
        parts = _parts(texts)
        with ThreadPoolExecutor(len(parts)) as threads:
            run = threads.map if len(parts) > 1 else map
            encoded = list(run(self._encoded, parts))
        if any(values is None for values in encoded):
            return None
        values = np.concatenate(encoded)  # pyright: ignore[reportArgumentType, reportCallIssue]
        separators = np.flatnonzero(values == _SEPARATOR)
        offsets = np.append(0, separators - np.arange(len(separators))).astype(np.int32)
        return np.delete(values, separators), offsets

    def _encoded(self, texts: Sequence[str]) -> np.ndarray | None:
        """Return the ids of texts, each followed by a separator."""
        text = self._added.replaced(texts)
        if text is None:
            return None
        try:
            ranks = self._tiktoken.encode_to_numpy(
                text, allowed_special=self._specials, disallowed_special=()
            )
        except ValueError:  # its regular expressions fail at some 100,000 spaces in a row
            return None
        ids = self._id_of_rank[ranks]
        return None if (ids == _LACKING).any() else ids


def _parts(texts: Sequence[str]) -> list[Sequence[str]]:
    """Return the texts in as many parts as there are cores to encode them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    characters = sum(map(len, texts))
    count = max(1, min(cores or 1, len(texts), characters // MIN_PART_CHARACTERS))
    size = max(1, -(-len(texts) // count))
    return [texts[start : start + size] for start in range(0, len(texts), size)] or [[]]


def _ranked(model: Mapping[str, Any]) -> tuple[dict[bytes, int], np.ndarray] | None:
    """Return tiktoken's ranks of a model's tokens and the id of each rank, or None.

    Bytes have the ranks 0 to 255; a byte that the vocabulary lacks has the id `_LACKING`.
    """
    contents = {name: _bytes_of(name) for name in model["vocab"]}
    words = {name: word for name, word in contents.items() if word and len(word) > 1}
    number_of = {character: value for value, character in enumerate(_byte_characters())}
    number_of |= {name: 256 + place for place, name in enumerate(words)}
    pairs = [
        (number_of.get(left, -1), number_of.get(right, -1), number_of.get(left + right, -1))
        for left, right in map(tuple, model["merges"])
    ]
    listed = np.array(pairs, np.int64).reshape(-1, 3)
    places, left_over = last_pairs(list(words.values()), listed[:, :2], listed[:, 2])
    is_formed = left_over == 1
    order = np.flatnonzero(is_formed)[np.argsort(places[is_formed])]
    if model.get("ignore_merges"):
        if (left_over == 2).any():
            return None  # tiktoken would form a token that the tokenizer only looks up
        order = np.append(order, np.flatnonzero(~is_formed))
    names = list(words)
    ranked = [names[place] for place in order.tolist()]
    ranks = {bytes([value]): value for value in range(256)}
    ranks |= {words[name]: 256 + rank for rank, name in enumerate(ranked)}
    vocabulary = model["vocab"]
    ids = [vocabulary.get(character, _LACKING) for character in _byte_characters()]
    return ranks, np.array([*ids, *(vocabulary[name] for name in ranked)], np.int32)


def _byte_characters() -> str:
    """Return the characters that stand for the bytes 0 to 255 in byte-level BPE."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))  # stand for the bytes that are not printable
    return "".join(chr(value if value in printable else next(others)) for value in range(256))


# Latin-1 characters that stand for no byte are led out of Latin-1.
_TO_LATIN1 = dict.fromkeys(range(256), 0xFFFF) | {
    ord(character): value for value, character in enumerate(_byte_characters())
}


def _bytes_of(name: str) -> bytes | None:
    """Return the bytes of a token of byte-level BPE, or None if no word contains it."""
    try:
        return name.translate(_TO_LATIN1).encode("latin-1")
    except UnicodeEncodeError:
        return None
