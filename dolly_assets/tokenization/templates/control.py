"""Control tokens: written by a template they are tokens, spelled by a message they are text.

Messages are marked before they are rendered: whatever spells a control token is wrapped in random
characters that no message contains. In the rendered text, control tokens that are not wrapped came
from the template. Stand-ins take their place, and the whole text is encoded once by a copy of the
tokenizer that knows the stand-ins and takes every control token for text; then ids of control
tokens take the place of those of stand-ins. A text in which nothing was marked gets exactly the
tokenizer's own ids.
"""

import json
import re
import secrets
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.tokenization.rank_bpe import RankEncoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

# Private-use characters, of which a random few are unguessable; they have no case and are no space,
# so that templates that trim or capitalize leave them alone.
_FIRST_PRIVATE, _LAST_PRIVATE = 0x100000, 0x10FFFD
_RANDOM_CHARACTERS = 5
_MANY_CHARACTERS = 100_000


class ControlTokens:
    """The control tokens of a tokenizer under one template.

    They are its special tokens, and those of its other added tokens that the template writes, such
    as `<think>`. Further added tokens, such as runs of spaces, are tokens wherever they occur.

    Attributes:
        ids: Id of each control token by its text.
        pattern: Matches a control token, the longest first.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", written: str) -> None:
        """Find the control tokens.

        Args:
            tokenizer: A fast tokenizer.
            written: The template's source and whatever it was seen to write.

        Raises:
            ConfigurationError: The tokenizer is not a fast one.
        """
        if not tokenizer.is_fast:
            raise ConfigurationError(
                f"{type(tokenizer).__name__} is a tokenizer in plain Python, expected a fast one: "
                "use a base model that has a tokenizer.json"
            )
        self.ids = {
            token.content: token_id
            for token_id, token in tokenizer.added_tokens_decoder.items()
            if token.special or (token.content in written and not token.content.isspace())
        }
        longest_first = sorted(self.ids, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        nonce = "".join(
            chr(_FIRST_PRIVATE + secrets.randbelow(_LAST_PRIVATE - _FIRST_PRIVATE))
            for _ in range(_RANDOM_CHARACTERS)
        )
        self._begin, self._end, self.edge = (f"{nonce}{chr(0xE000 + kind)}" for kind in range(3))
        self._stand_in = {
            content: f"{nonce}{chr(0xE010 + place)}" for place, content in enumerate(longest_first)
        }
        self._parts = re.compile(
            f"{self._begin}({self.pattern.pattern}){self._end}|{self._begin}|{self._end}|"
            f"(?:{self.pattern.pattern})"
        )
        self._plain: Tokenizer = tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue, reportAssignmentType]
        self._backend = self._with_stand_ins()
        self._edge_id = self._backend.token_to_id(self.edge)
        self._id_of = np.arange(
            self._backend.get_vocab_size(with_added_tokens=True), dtype=np.int32
        )
        for content, stand_in in self._stand_in.items():
            self._id_of[self._backend.token_to_id(stand_in)] = self.ids[content]
        self._is_control = np.zeros(len(self._id_of), dtype=bool)
        self._is_control[list(self.ids.values())] = True
        if isinstance(tokenizer.unk_token_id, int):  # which any text may contain
            self._is_control[tokenizer.unk_token_id] = False

    @property
    def encoder(self) -> str:
        """The library in use: tiktoken where it provably gives the same ids, else tokenizers."""
        return "tiktoken" if self._ranks else "tokenizers"

    @cached_property
    def _ranks(self) -> RankEncoder | None:
        return RankEncoder.of(self._backend)

    @cached_property
    def _plain_ranks(self) -> RankEncoder | None:
        return self._ranks and self._ranks.with_tokens_of(self._plain)

    def marked(self, value: Any) -> Any:
        """Return strings, lists or dictionaries, keys included, with marked control tokens."""
        if isinstance(value, str):
            return self.pattern.sub(f"{self._begin}\\g<0>{self._end}", value)
        if isinstance(value, dict):
            return {self.marked(key): self.marked(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.marked(each) for each in value]
        return value

    def is_marked(self, rendered: str) -> bool:
        """Whether a rendered text contains a control token that a message spells."""
        return self._begin in rendered

    def unmarked(self, rendered: str) -> str:
        """Return a rendered text as its readers see it."""
        return rendered.replace(self._begin, "").replace(self._end, "").replace(self.edge, "")

    def written_in(self, rendered: str, start: int = 0) -> Iterable[tuple[str, int, int]]:
        """Yield the control tokens that the template wrote, each with its begin and end."""
        for match in self._parts.finditer(rendered, start):
            if match[0] in self.ids:
                yield match[0], match.start(), match.end()

    def encode(self, rendered: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray] | None]:
        """Encode rendered texts, which may contain edges.

        Returns:
            The ids of each, and how many of them stand before each edge; None for a text of which
            the tokenizer turns what a message spells into a control token.
        """
        texts = [self._parts.sub(self._stand_in_of, each) for each in rendered]
        ranks = self._ranks if _are_many(texts) else None
        return [self._resolved(ids) for ids in _encoded(texts, ranks, self._backend)]

    def plain_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return what the tokenizer itself makes of texts, without tokens around them."""
        return _encoded(texts, self._plain_ranks if _are_many(texts) else None, self._plain)

    def decode(self, ids: Sequence[np.ndarray]) -> list[str]:
        """Return the texts of ids, control tokens included."""
        return self._plain.decode_batch([each.tolist() for each in ids], skip_special_tokens=False)

    def _stand_in_of(self, match: re.Match[str]) -> str:
        if match[1] is not None:
            return match[1]
        return self._stand_in.get(match[0], "")

    def _resolved(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        if self._is_control[ids].any():
            return None
        is_edge = ids == self._edge_id
        edges = np.flatnonzero(is_edge)
        return self._id_of[ids[~is_edge]], edges - np.arange(len(edges))

    def _with_stand_ins(self) -> "Tokenizer":
        """Return a copy of the backend that splits at stand-ins and edges alone."""
        from tokenizers import AddedToken, Tokenizer

        description = json.loads(self._plain.to_str())
        added = {token["content"]: token for token in description["added_tokens"]}
        for content in self.ids:
            # Only special tokens can be taken for text; `<think>` is often none.
            added[content]["special"] = True
        backend = Tokenizer.from_str(json.dumps(description))
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        stand_ins = [
            AddedToken(
                stand_in,
                special=False,
                normalized=False,
                **{key: added[content][key] for key in ("lstrip", "rstrip", "single_word")},
            )
            for content, stand_in in self._stand_in.items()
        ]
        backend.add_tokens([*stand_ins, AddedToken(self.edge, special=False, normalized=False)])
        return backend


def _are_many(texts: Sequence[str]) -> bool:
    """Whether encoding takes longer than finding ranks; a prompt to answer has none found."""
    return sum(map(len, texts)) > _MANY_CHARACTERS


def _encoded(
    texts: Sequence[str], ranks: RankEncoder | None, backend: "Tokenizer"
) -> list[np.ndarray]:
    """Return the ids of each text."""
    if ranks and (ranked := ranks.encode(texts)):
        ids, offsets = ranked
        return np.split(ids, offsets[1:-1])
    encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
    return [np.array(each.ids, dtype=np.int32) for each in encodings]
