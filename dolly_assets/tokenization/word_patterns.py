r"""The pattern that splits a text into words exactly as a tokenizer's pre-tokenizer does.

It knows descriptions of pre-tokenizers and regular expressions, and no vocabulary. A pattern is run
by two engines: Oniguruma in tokenizers, Rust's in tiktoken. Those listed here use only what both
define alike, alternatives in order, greedy repetition and one look-ahead. Their classes of
characters are Unicode's, and each engine brings its own tables; a test compares every class for
every code point. Every pattern matches somewhere at every character, so that nothing lies between
two words.
"""

from typing import Any

# Published with GPT-2 (https://github.com/openai/gpt-2, src/encoder.py); the words of `ByteLevel`.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# `Digits` asks Rust's standard library for numbers, which knows some of a later Unicode.
LATER_NUMBERS = "".join(
    f"\\x{{{code_point:X}}}" for code_point in (*range(0x11DE0, 0x11DEA), 0x16FF4, 0x16FF5, 0x16FF6)
)
# Each number is a text of its own, so that no word has a space before a number, and spaces before a
# number are at the end of a text.
GPT2_BETWEEN_NUMBERS = (
    rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+|[\p{{N}}{LATER_NUMBERS}]"
    rf"| ?[^\s\p{{L}}\p{{N}}{LATER_NUMBERS}]+|\s+(?![^\s\p{{N}}{LATER_NUMBERS}])|\s+"
)

_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SIGNS_OR_SLASHES = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_WORD_WITH_MARKS = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CAPITALIZED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+"
_CAPITALS = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"

SPLITS = {
    "Llama 3": rf"{_ENDINGS}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}",
    "Qwen 2": rf"{_ENDINGS}|{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}",
    "Qwen 3.5": rf"{_ENDINGS}|{_WORD_WITH_MARKS}|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*"
    rf"|{_SPACES}",
    "GPT-4o": rf"{_CAPITALIZED}{_ENDINGS}?|{_CAPITALS}{_ENDINGS}?|\p{{N}}{{1,3}}"
    rf"|{_SIGNS_OR_SLASHES}|{_SPACES}",
    "Tekken": rf"{_CAPITALIZED}|{_CAPITALS}|\p{{N}}|{_SIGNS_OR_SLASHES}|{_SPACES}",
}
"""The patterns of `Split`, by the model that came with each first; others use them as well."""


def word_pattern(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """Return the pattern of the words of a pre-tokenizer, or None where it is not known.

    Args:
        pre_tokenizer: Its description, as tokenizer.json has it.
    """
    kind = pre_tokenizer and pre_tokenizer.get("type")
    match (
        pre_tokenizer["pretokenizers"] if pre_tokenizer and kind == "Sequence" else [pre_tokenizer]
    ):
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]:
            return GPT2
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        ]:
            return GPT2_BETWEEN_NUMBERS
        case [
            {"type": "Split", "pattern": {"Regex": str(split)}, "behavior": "Isolated"} as first,
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ] if split in SPLITS.values() and not first["invert"]:
            return split
    return None
