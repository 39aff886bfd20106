"""The records of a suite as token ids, checked against the model's context."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from dolly_assets.core.errors import ConfigurationError, TemplateError
from dolly_assets.generation.model import LoadedModel
from dolly_assets.suites.records import Record
from dolly_assets.training.context import Context

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WINDOW_TOKENS = 2048  # of models whose context is not known


class Labelled(NamedTuple):
    """Token ids of which all after the first ones are scored."""

    ids: list[int]
    unlabelled: int


@dataclass(frozen=True)
class RecordEncoder:
    """Encodes records for a model.

    Attributes:
        loaded: The model.
        place: What errors name before a record's line.
        chat_template: Whether prompts are laid out in the template.
    """

    loaded: LoadedModel
    place: str
    chat_template: bool

    def prompt(self, record: Record, max_new_tokens: int) -> list[int]:
        """Return the ids of a prompt that is to be answered.

        Raises:
            ConfigurationError: Prompt and answer are longer than the context, or the template
                refuses the prompt.
        """
        ids = self._prompt(record)
        self._check(record, len(ids), max_new_tokens)
        return ids

    def choices(self, record: Record) -> list[Labelled]:
        """Return the ids of each choice after the prompt.

        Without a template they are those of the joined text, as lm-evaluation-harness encodes it.

        Raises:
            ConfigurationError: As for `prompt`.
        """
        tokenizer, prompt = self.loaded.tokenizer, self._prompt(record)
        if self.chat_template:
            found = [
                Labelled([*prompt, *_ids(tokenizer, choice, begin=False)], len(prompt))
                for choice in record.choices
            ]
        else:
            text = record.asked.text
            found = [_joined(tokenizer, text, f" {choice}") for choice in record.choices]
        self._check(record, max(len(each.ids) for each in found), 0)
        return found

    def windows(self, record: Record) -> list[Labelled]:
        """Return the ids of a text in windows of the context; each token is scored once.

        A window begins with the last token of the one before it, the first with the token that
        begins texts, if the tokenizer has one.
        """
        tokenizer = self.loaded.tokenizer
        begin = tokenizer.bos_token_id
        begin = tokenizer.eos_token_id if begin is None else begin
        ids = [*([] if begin is None else [begin]), *_ids(tokenizer, record.text, begin=False)]
        size = self._context or _WINDOW_TOKENS
        return [
            Labelled(ids[start : start + size], 1) for start in range(0, len(ids) - 1, size - 1)
        ]

    def _prompt(self, record: Record) -> list[int]:
        if not self.chat_template:
            return _ids(self.loaded.tokenizer, record.asked.text, begin=True)
        try:
            return self.loaded.encoder.prompt(record.conversation)
        except TemplateError as error:
            raise ConfigurationError(f"{self.place}:{record.line}: {error}") from error

    def _check(self, record: Record, tokens: int, max_new_tokens: int) -> None:
        if self._context is None or tokens + max_new_tokens <= self._context:
            return
        answer = f" and the answer up to {max_new_tokens:,}" if max_new_tokens else ""
        raise ConfigurationError(
            f"{self.place}:{record.line}: the prompt has {tokens:,} tokens{answer}, more than the "
            f"context of {self._context:,}: shorten the record or lower max_new_tokens"
        )

    @cached_property
    def _context(self) -> int | None:
        context = Context.of(self.loaded.model.config.to_dict())
        return context.tokens if context else None


def _joined(tokenizer: "PreTrainedTokenizerBase", prompt: str, rest: str) -> Labelled:
    """Return a text of two parts, encoded as one; the second is scored.

    White space that ends the first part belongs to the second.
    """
    whole = _ids(tokenizer, prompt + rest, begin=True)
    return Labelled(whole, len(_ids(tokenizer, prompt.rstrip(), begin=True)))


def _ids(tokenizer: "PreTrainedTokenizerBase", text: str, *, begin: bool) -> list[int]:
    """Return the ids of a text, after the tokens that begin every text if asked."""
    ids: Sequence[int] = tokenizer(text, add_special_tokens=begin, verbose=False).input_ids
    return [*ids]
