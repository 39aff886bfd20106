"""Added tokens, which split a text before it is normalized and split into words.

Each is replaced by a private-use character, at which tiktoken splits the text likewise. The
tokenizer finds its added tokens from the left, the longest of several, in two passes: those that
are not normalized in the text as it is, the others in what is left, after that was normalized.
Special tokens that are to be text are found as well and left, so that no other token is found
inside them.

Of normalizers it knows NFC. A private-use character composes with nothing, so that the parts
between two of them are normalized each for itself.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Supplementary Private Use Area-A: the stand-ins of chat templates are from area B.
FIRST_CHARACTER, LAST_CHARACTER = 0xF0000, 0xFFFFD
_PRIVATE = re.compile(f"[{chr(FIRST_CHARACTER)}-{chr(LAST_CHARACTER)}]")
# NFC changes nothing before an ASCII character, and of ASCII only the one before a combining mark.
_MAY_COMPOSE = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]+")


class AddedTokens:
    """The added tokens of a tokenizer.

    Attributes:
        separator: A character that splits two texts, of no token.
        characters: The id of the token that each character stands for.
    """

    def __init__(
        self,
        tokens: Mapping[int, Any],
        normalize: Callable[[str], str] | None,
        *,
        specials_are_text: bool,
    ) -> None:
        """Assign a character to each token that is not text.

        Args:
            tokens: The added tokens by id.
            normalize: The normalizer, if there is one.
            specials_are_text: Whether the tokenizer treats special tokens as text.
        """
        self.separator = chr(FIRST_CHARACTER)
        self.characters: dict[str, int] = {}
        self._normalize = normalize
        self._passes: list[tuple[re.Pattern[str], dict[str, str]]] = []
        for is_normalized in (False, True):
            replacement: dict[str, str] = {}
            for token_id, token in tokens.items():
                if token.normalized == is_normalized and token.content:
                    content = self._normalized(token.content) if is_normalized else token.content
                    is_text = token.special and specials_are_text
                    replacement[content] = content if is_text else self._character(token_id)
            longest_first = sorted(replacement, key=len, reverse=True)
            pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
            self._passes.append((pattern, replacement))

    @classmethod
    def of(cls, backend: "Tokenizer") -> Self | None:
        """Return the added tokens of a tokenizer, or None where they are not known to be equal."""
        from tokenizers import normalizers

        tokens = backend.get_added_tokens_decoder()
        is_known = backend.normalizer is None or isinstance(backend.normalizer, normalizers.NFC)
        specials_are_text = backend.encode_special_tokens
        is_plain = all(
            (token.special and specials_are_text)
            or not (token.lstrip or token.rstrip or token.single_word)
            for token in tokens.values()
        )
        if not (is_known and is_plain and len(tokens) < LAST_CHARACTER - FIRST_CHARACTER):
            return None
        normalize = backend.normalizer and backend.normalizer.normalize_str
        return cls(tokens, normalize, specials_are_text=specials_are_text)

    def replaced(self, texts: Sequence[str]) -> str | None:
        """Return the texts as one, with characters for added tokens and a separator after each.

        Returns None if a text contains such a character itself.
        """
        text = "".join(texts)
        if not text.isascii() and _PRIVATE.search(text):
            return None
        text = "".join([part for text in texts for part in (text, self.separator)])
        (as_is, replacement), (in_normalized, normalized_replacement) = self._passes
        text = as_is.sub(lambda match: replacement[match[0]], text)
        text = self._normalized(text)
        return in_normalized.sub(lambda match: normalized_replacement[match[0]], text)

    def _character(self, token_id: int) -> str:
        character = chr(FIRST_CHARACTER + 1 + len(self.characters))
        self.characters[character] = token_id
        return character

    def _normalized(self, text: str) -> str:
        normalize = self._normalize
        if normalize is None or text.isascii():
            return text
        return _MAY_COMPOSE.sub(lambda match: normalize(match[0]), text)
