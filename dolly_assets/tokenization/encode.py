"""From an example to token ids, in the same way for training and generation.

Only the markers of the prompt style become special tokens. A user's text that spells one ("###
End") stays text, so it can neither end a label early nor forge a response. The module knows nothing
of splits, lengths or files.
"""

import copy
import secrets
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.rank_bpe import RankEncoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase


class PromptEncoder:
    """Encodes prompts and examples of one style with one tokenizer.

    The text is laid out with stand-ins for the style's markers, random strings that no user text
    contains, and encoded whole with all special tokens turned off; then the ids of the stand-ins
    are replaced by those of the markers. These are exactly the ids of the whole text, whatever the
    tokenizer does at the beginning of a text. A beginning-of-sequence token is added if that is the
    tokenizer's default; nothing else is added.

    Attributes:
        end_token_id: The id of the style's end key.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", style: PromptStyle) -> None:
        """Prepare a copy of the tokenizer that knows the stand-ins.

        Raises:
            ConfigurationError: The tokenizer is not a fast one, or lacks one of the style's special
                tokens.
        """
        marker_ids = _marker_ids(tokenizer, style)
        self.end_token_id = marker_ids[0]
        self._bos_ids = _bos_ids(tokenizer)

        nonce = secrets.token_hex(16)
        self._style = style.model_copy(
            update={
                key: f"<{key} {nonce}>" for key in ("end_key", "instruction_key", "response_key")
            }
        )
        self._backend = _backend_with_stand_ins(tokenizer, marker_ids, self._style.special_tokens)
        stand_in_ids = [
            self._backend.token_to_id(stand_in) for stand_in in self._style.special_tokens
        ]
        self._marker_id_of_stand_in = dict(zip(stand_in_ids, marker_ids, strict=True))
        self._end_stand_in_id, _, self._response_stand_in_id = stand_in_ids

    @cached_property
    def _ranks(self) -> RankEncoder | None:
        return RankEncoder.of(self._backend)

    @property
    def encoder(self) -> str:
        """The library in use: tiktoken where it provably gives the same ids, else tokenizers."""
        return "tiktoken" if self._ranks else "tokenizers"

    def prompt(self, instruction: str, context: str = "") -> list[int]:
        """Return the ids of a prompt, up to and including the response marker."""
        ids = self._backend.encode(
            self._style.prompt(instruction, context), add_special_tokens=False
        ).ids
        return self._bos_ids + [
            self._marker_id_of_stand_in.get(token_id, token_id) for token_id in ids
        ]

    def examples(
        self, instructions: Sequence[str], contexts: Sequence[str], responses: Sequence[str]
    ) -> tuple[pa.ListArray, pa.Int32Array]:
        """Encode whole examples.

        Returns:
            The ids, one list<int32> per example, which ends with the end key's id; and the prompt
            lengths, int32 per example: the tokens up to and including the response marker.
        """
        texts = [
            self._style.prompt(instruction, context) + self._style.completion(response)
            for instruction, context, response in zip(
                instructions, contexts, responses, strict=True
            )
        ]
        values = self._encoded(texts)
        # Every text contains the end's stand-in exactly once, as its last token.
        offsets = np.append(0, np.flatnonzero(values == self._end_stand_in_id) + 1).astype(np.int32)
        # Every text contains the response's stand-in exactly once.
        prompt_length = np.flatnonzero(values == self._response_stand_in_id) + 1 - offsets[:-1]
        for stand_in_id, marker_id in self._marker_id_of_stand_in.items():
            values[values == stand_in_id] = marker_id
        return pa.ListArray.from_arrays(offsets, values), pa.array(prompt_length, pa.int32())

    def _encoded(self, texts: Sequence[str]) -> np.ndarray:
        """Return the ids of all texts, concatenated and with stand-ins."""
        ranked = self._ranks.encode(texts) if self._ranks else None
        if ranked is not None:
            values, offsets = ranked
            begins = np.repeat(offsets[:-1], len(self._bos_ids))
            return np.insert(values, begins, self._bos_ids * len(texts))
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        ids = chain.from_iterable(self._bos_ids + encoding.ids for encoding in encodings)
        return np.fromiter(ids, dtype=np.int32)


def _backend_with_stand_ins(
    tokenizer: "PreTrainedTokenizerBase", marker_ids: Sequence[int], stand_ins: Sequence[str]
) -> "Tokenizer":
    """Return a copy of the backend that treats special tokens as text, and splits at stand-ins."""
    from tokenizers import AddedToken

    backend: Tokenizer = copy.deepcopy(tokenizer.backend_tokenizer)  # pyright: ignore[reportAttributeAccessIssue, reportAssignmentType]
    backend.no_truncation()
    backend.no_padding()
    # With this, special tokens are encoded as text. Tokens with special=False are exempt, so the
    # stand-ins have that.
    backend.encode_special_tokens = True
    for marker_id, stand_in in zip(marker_ids, stand_ins, strict=True):
        marker = tokenizer.added_tokens_decoder[marker_id]
        backend.add_tokens(
            [
                AddedToken(
                    stand_in,
                    special=False,
                    normalized=False,
                    lstrip=marker.lstrip,
                    rstrip=marker.rstrip,
                )
            ]
        )
    return backend


def _marker_ids(tokenizer: "PreTrainedTokenizerBase", style: PromptStyle) -> list[int]:
    """Return the ids of `style.special_tokens`, in that order."""
    if not tokenizer.is_fast:
        raise ConfigurationError(
            f"{type(tokenizer).__name__} is a tokenizer in plain Python, expected a fast one: "
            "use a base model that has a tokenizer.json"
        )
    special = {
        token.content: token_id
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special
    }
    missing = [marker for marker in style.special_tokens if marker not in special]
    if missing:
        raise ConfigurationError(
            f"the tokenizer lacks the prompt style's special tokens {missing}; it has "
            f"{sorted(special)}: materialize base_model with this prompt style, which adds them"
        )
    return [special[marker] for marker in style.special_tokens]


def _bos_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the beginning-of-sequence token, if this tokenizer adds one by default."""
    bos_token_id = tokenizer.bos_token_id
    starts_with_bos = bos_token_id is not None and tokenizer("a").input_ids[0] == bos_token_id
    return [bos_token_id] if starts_with_bos else []  # pyright: ignore[reportReturnType]
