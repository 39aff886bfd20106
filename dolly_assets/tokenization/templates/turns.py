"""A conversation's turns: where its labels begin and end, proven by rendering.

A label begins where the generation prompt ends and ends with the end token: exactly what a model
generates. It knows rendered text; token ids are for `encoder.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dolly_assets.core.errors import TemplateError
from dolly_assets.tokenization.templates.control import ControlTokens
from dolly_assets.tokenization.templates.presence import first_absent
from dolly_assets.tokenization.templates.render import Renderer
from dolly_assets.tokenization.templates.settings import Labels

MOST_TRAINED_TURNS = 512
"""Each turn is proven by renderings of all that precedes it, so the work grows with its square."""

Messages = Sequence[dict[str, Any]]


class Refusal(Exception):  # noqa: N818 it says why one conversation is left out
    """The reason for which a conversation is not trained on."""


@dataclass(frozen=True)
class Turn:
    """A trained turn.

    Attributes:
        message: Its place among the messages.
        text: The rendering of all messages up to its end token.
        prompt: Characters of the text that are the prompt.
        label: Where its label begins.
    """

    message: int
    text: str
    prompt: int
    label: int


@dataclass(frozen=True)
class RenderedExample:
    """What is trained on at once: a text, and the turns in it that carry labels."""

    turns: tuple[Turn, ...]

    @property
    def text(self) -> str:
        """The text, which ends with the last turn's end token."""
        return self.turns[-1].text


class TurnFinder:
    """Finds the turns of conversations under one template."""

    def __init__(
        self,
        renderer: Renderer,
        control: ControlTokens,
        end_tokens: Sequence[str],
        labels: Labels,
    ) -> None:
        self._renderer, self._control = renderer, control
        self._end_tokens, self._labels = frozenset(end_tokens), labels

    def examples(self, messages: Messages, tools: Sequence[Any]) -> list[RenderedExample]:
        """Return the examples of a conversation, in the order of their last turns.

        One holds every turn that is the same text as history as it was when it was generated. Where
        the template rewrites history, there are several.

        Args:
            messages: Marked.
            tools: Marked.

        Raises:
            Refusal: Something cannot be shown, or not be proven.
        """
        trained = [at for at, each in enumerate(messages) if each["role"] == "assistant"]
        if not trained:
            raise Refusal("it has no turn of the assistant")
        if self._labels.turns == "last":
            trained = trained[-1:]
        if len(trained) > MOST_TRAINED_TURNS:
            raise Refusal(f"it has more than {MOST_TRAINED_TURNS} turns of the assistant")
        try:
            prompts = self._renderer.prompts([messages[:at] for at in trained], tools)
            texts = self._renderer.beginnings([messages[: at + 1] for at in trained], tools)
        except TemplateError as error:
            raise Refusal(str(error)) from error
        left = [
            self._turn(messages[at], at, prompt, text)
            for at, prompt, text in zip(trained, prompts, texts, strict=True)
        ]
        examples: list[RenderedExample] = []
        while left:
            whole = left[-1].text
            examples.append(
                RenderedExample(tuple(turn for turn in left if whole.startswith(turn.text)))
            )
            left = [turn for turn in left if not whole.startswith(turn.text)]
        if len(examples) > 1 and self._labels.rewritten_history == "refuse":
            raise Refusal("the template changes earlier turns once they are history")
        for example in examples:
            self._check_presence(example, messages, tools)
        return examples[::-1]

    def _turn(self, message: dict[str, Any], at: int, prompt: str, text: str) -> Turn:
        """Return a trained turn.

        Args:
            message: What the turn says.
            at: Its place.
            prompt: The rendering of all that precedes it, with the generation prompt.
            text: The rendering of all messages through this one.
        """
        if not text.startswith(prompt):
            raise Refusal("a turn does not begin as the generation prompt ends")
        written = self._control.written_in(text, len(prompt))
        end = next((end for token, _, end in written if token in self._end_tokens), None)
        if end is None:
            raise Refusal("no end token follows a turn")
        label = len(prompt)
        if not self._labels.reasoning and (reasoning := message.get("reasoning_content")):
            label = self._after_reasoning(text[:end], label, reasoning.strip())
        return Turn(at, text[:end], len(prompt), label)

    def _after_reasoning(self, text: str, start: int, reasoning: str) -> int:
        """Return where a turn goes on after its reasoning: with the token that ends it, if any."""
        found = text.find(reasoning, start)
        if found < 0:
            return start
        after = found + len(reasoning)
        begin = next((begin for _, begin, _ in self._control.written_in(text, after)), after)
        return begin if not text[after:begin].strip() else after

    def _check_presence(
        self, example: RenderedExample, messages: Messages, tools: Sequence[Any]
    ) -> None:
        """Raise Refusal if the example's text leaves out anything that a message states."""
        prompts = {turn.message: turn.prompt for turn in example.turns}
        absent = first_absent(
            example.text,
            messages[: example.turns[-1].message + 1],
            tools,
            prompts,
            needs_reasoning=self._labels.reasoning,
        )
        if absent:
            raise Refusal(f"the template leaves out {absent}")
