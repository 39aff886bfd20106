"""An answer's text while its tokens arrive: what can be shown already, and whether it has ended.

Once the answer has ended, the pieces together are the text that `answer.py` gives for the same
tokens: without special tokens, and stripped.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class AnswerText:
    """Turns tokens into text, up to a stop string.

    What may still change is held back: bytes of an incomplete character, white space that may be
    the last, and the beginning of a stop string.

    Attributes:
        is_stopped: Whether a stop string was found.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", stops: Sequence[str] = ()) -> None:
        """Begin an answer.

        Args:
            tokenizer: A fast tokenizer.
            stops: Texts before which the answer ends, none empty.
        """
        from tokenizers.decoders import DecodeStream

        self.is_stopped = False
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self._backend: Any = tokenizer.backend_tokenizer
        self._decode = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._text, self._shown = "", 0

    def add(self, token: int) -> str:
        """Add a token; return the text that can be shown since the last call."""
        self._ids.append(token)
        piece = self._decode.step(self._backend, token) or ""
        return self._show(self._text + piece, is_last=False) if piece else ""

    def end(self) -> str:
        """End the answer; return the rest of its text."""
        if self.is_stopped:
            return ""
        text = self._tokenizer.decode(
            self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return self._show(str(text), is_last=True)

    def _show(self, text: str, *, is_last: bool) -> str:
        self._text = text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.is_stopped = True
            text = text[: min(found)]
        end = len(text) if is_last or found else len(text) - self._held_back(text)
        # White space is shown once something follows it; that before the first word never is.
        stripped = text[:end].strip()
        piece = stripped[self._shown :]
        self._shown = max(self._shown, len(stripped))
        return piece

    def _held_back(self, text: str) -> int:
        """Return how many of the last characters may begin a stop string."""
        return max(
            (
                length
                for stop in self._stops
                for length in range(1, min(len(stop), len(text) + 1))
                if text.endswith(stop[:length])
            ),
            default=0,
        )
