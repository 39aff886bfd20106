"""A tokenizer as GGUF states it: tokens, merges, and what llama.cpp splits a text by.

It knows tokenizers of two kinds, byte-level BPE and SentencePiece's BPE; llama.cpp has its own code
for each way of splitting a text, so only those that it knows by name can be written.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import ConfigurationError

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PreTrainedTokenizerBase

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT4O_WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    rf"{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]+"
    rf"[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]*{_CONTRACTIONS}?"
)
_SPLITS = {
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}": "qwen2",
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    rf"{_GPT4O_WORDS}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": (
        "gpt-4o"
    ),
}
"""llama.cpp's names of the expressions by which a text is split before bytes are merged."""
_BYTE = "<0x{:02X}>"
_MOST_STOPS = 3  # eos, eot and eom


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a GGUF file.

    Attributes:
        model: `gpt2` for byte-level BPE, `llama` for SentencePiece's.
        splitter: llama.cpp's name of how a text is split.
        tokens: The texts of all tokens, by id.
        types: What each is, by llama.cpp's numbers.
        scores: By id, which pair is merged first; for SentencePiece only.
        merges: Pairs in their order; for byte-level BPE only.
        adds_bos: Whether a text begins with the token for it.
        adds_space: Whether a text is given a space before it.
    """

    model: str
    splitter: str
    tokens: list[str]
    types: list[int]
    scores: list[float] | None
    merges: list[str] | None
    adds_bos: bool
    adds_space: bool

    def write(
        self, writer: "GGUFWriter", tokenizer: "PreTrainedTokenizerBase", stops: Sequence[int]
    ) -> None:
        """Write it with its special tokens.

        Args:
            writer: Of the file.
            tokenizer: The tokenizer.
            stops: The ids that end an answer.

        Raises:
            ConfigurationError: There are more of them than GGUF has names for.
        """
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.splitter)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.scores is not None:
            writer.add_token_scores(self.scores)
        if self.merges is not None:
            writer.add_token_merges(self.merges)
        writer.add_add_bos_token(self.adds_bos)
        writer.add_add_eos_token(False)
        writer.add_add_space_prefix(self.adds_space)
        _write_special(writer, tokenizer, stops)


def vocabulary_of(tokenizer: "PreTrainedTokenizerBase", rows: int) -> Vocabulary:
    """Return the vocabulary of a tokenizer.

    Args:
        tokenizer: A fast one.
        rows: Rows of the model's embeddings; those without a token get one that is never used.

    Raises:
        ConfigurationError: llama.cpp has no tokenizer of this kind.
    """
    backend: Any = tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue]
    document: dict[str, Any] = json.loads(backend.to_str())
    model = document["model"]
    if model["type"] != "BPE":
        raise _unknown(f"of the kind {model['type']}")
    is_bytes = not model.get("byte_fallback") and not _is_sentencepiece(document)
    tokens, types = _tokens(document, rows, is_bytes)
    return Vocabulary(
        model="gpt2" if is_bytes else "llama",
        splitter=_splitter(document) if is_bytes else "default",
        tokens=tokens,
        types=types,
        scores=None if is_bytes else _scores(tokens, model["merges"]),
        merges=[_pair(merge) for merge in model["merges"]] if is_bytes else None,
        adds_bos=adds_bos(tokenizer),
        adds_space=not is_bytes and _adds_space(document),
    )


def adds_bos(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Return whether a tokenizer begins every text with the token for it."""
    bos: Any = tokenizer.bos_token_id
    return bos is not None and tokenizer("a").input_ids[0] == bos


def _tokens(document: dict[str, Any], rows: int, is_bytes: bool) -> tuple[list[str], list[int]]:
    """Return texts and types of all rows."""
    from gguf import TokenType

    tokens = [f"[PAD{row}]" for row in range(rows)]
    types = [int(TokenType.UNUSED)] * rows
    unknown = document["model"].get("unk_token")
    of_bytes = set() if is_bytes else {_BYTE.format(byte) for byte in range(256)}
    for token, row in document["model"]["vocab"].items():
        kind = TokenType.BYTE if token in of_bytes else TokenType.NORMAL
        tokens[row], types[row] = token, int(kind)
    for added in document["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        if added["content"] == unknown and not is_bytes:
            kind = TokenType.UNKNOWN
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    return tokens, types


def _write_special(
    writer: "GGUFWriter", tokenizer: "PreTrainedTokenizerBase", stops: Sequence[int]
) -> None:
    own: Any = tokenizer.eos_token_id
    end = own if isinstance(own, int) else stops[0]
    others = [stop for stop in stops if stop != end]
    if len(others) >= _MOST_STOPS:
        raise ConfigurationError(
            f"a GGUF file names {_MOST_STOPS} tokens that end an answer, and this model has "
            f"{1 + len(others)}: {tokenizer.convert_ids_to_tokens([end, *others])}; export it as hf"
        )
    writer.add_eos_token_id(end)
    writer.add_array("tokenizer.ggml.eos_token_ids", [end, *others])
    for write, token_id in zip(
        (writer.add_eot_token_id, writer.add_eom_token_id), others, strict=False
    ):
        write(token_id)
    for write, found in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
    ):
        if isinstance(found, int):
            write(found)


def _parts(step: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """Return the steps of a normalizer or a splitter, without the sequences around them."""
    if step is None:
        return []
    if step["type"] == "Sequence":
        return [part for each in step[key] for part in _parts(each, key)]
    return [step]


def _splitter(document: dict[str, Any]) -> str:
    """Return llama.cpp's name of how byte-level BPE splits a text.

    Raises:
        ConfigurationError: It has none for it.
    """
    for step in _parts(document["normalizer"], "normalizers"):
        if step["type"] != "NFC":  # which changes nothing in text that is composed already
            raise _unknown(f"that normalizes a text by {step['type']}")
    *before, last = _parts(document["pre_tokenizer"], "pretokenizers") or [{"type": "nothing"}]
    if last["type"] == "ByteLevel" and not last.get("add_prefix_space"):
        if last["use_regex"]:
            if not before:
                return "gpt-2"
            if [each["type"] for each in before] == ["Digits"] and before[0]["individual_digits"]:
                return "smollm"
        elif [each["type"] for each in before] == ["Split"]:
            pattern = before[0]["pattern"].get("Regex")
            if before[0]["behavior"] == "Isolated" and pattern in _SPLITS:
                return _SPLITS[pattern]
    steps = [*before, last]
    raise _unknown(f"that splits a text by {json.dumps(steps, ensure_ascii=False)[:200]}")


def _is_sentencepiece(document: dict[str, Any]) -> bool:
    steps = _parts(document["pre_tokenizer"], "pretokenizers")
    return any(step["type"] == "Metaspace" for step in steps)


def _adds_space(document: dict[str, Any]) -> bool:
    """Return whether every piece of text, from one control token to the next, gets a space."""
    steps = _parts(document["pre_tokenizer"], "pretokenizers")
    if any(step.get("prepend_scheme") == "always" for step in steps):
        return True
    return any(step["type"] == "Prepend" for step in _parts(document["normalizer"], "normalizers"))


def _scores(tokens: Sequence[str], merges: Sequence[Any]) -> list[float]:
    """Return the scores by which SentencePiece merges in this order: the highest first."""
    rank: dict[str, int] = {}
    for at, merge in enumerate(merges):
        rank.setdefault(_pair(merge).replace(" ", "", 1), at)
    return [float(-rank[token]) if token in rank else -1e6 for token in tokens]


def _pair(merge: Any) -> str:
    return merge if isinstance(merge, str) else " ".join(merge)


def _unknown(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"a GGUF file cannot be written: llama.cpp has no tokenizer {what}; export the model as hf"
    )
