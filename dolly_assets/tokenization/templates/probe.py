"""What a template does, found once by rendering short conversations through it.

Most important is the token that ends a turn: it is read off a rendering, never taken from the
tokenizer's settings, which often name another one.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dolly_assets.conversations import Conversation, Message, ToolCall
from dolly_assets.core.errors import TemplateError
from dolly_assets.tokenization.templates.control import ControlTokens
from dolly_assets.tokenization.templates.messages import TemplateInput
from dolly_assets.tokenization.templates.render import Renderer

_ASKS, _ANSWERS = ("Ottokar asks", "Quillon asks"), ("Brackwater answers", "Wexford answers")
_TOOL = {
    "type": "function",
    "function": {
        "name": "find_lantern",
        "description": "Finds a lantern.",
        "parameters": {
            "type": "object",
            "properties": {"harbour": {"type": "string", "description": "Where to search."}},
            "required": ["harbour"],
        },
    },
}
_CALL = ToolCall("find_lantern", {"harbour": "Skerryvore"}, id="call12345")

Verdict = str | None
"""What became of a part of a conversation: "" if it is shown, a template's sentence if it raises,
None if it is left out."""


@dataclass(frozen=True)
class Facts:
    """What a template does.

    Attributes:
        end_tokens: Which end a turn, that of a plain answer first.
        keeps_history: Whether a turn is the same text once it is history.
        needs_alternating_roles: Whether it refuses two messages of one role in a row.
        trims_text: Whether it strips white space around texts.
        arguments_as_json: Whether it expects the arguments of tool calls as JSON.
        left_out: Parts of conversations that it leaves out without a word.
        refused: Parts that it refuses, each with its sentence.
    """

    end_tokens: tuple[str, ...]
    keeps_history: bool = True
    needs_alternating_roles: bool = False
    trims_text: bool = False
    arguments_as_json: bool = False
    left_out: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the facts as a manifest keeps them."""
        return json.loads(json.dumps(asdict(self)))


class Probe:
    """Short conversations, rendered through one template.

    Attributes:
        written: All that was rendered.
        arguments_as_json: Whether it expects the arguments of tool calls as JSON.
    """

    def __init__(self, renderer: Renderer) -> None:
        """Render.

        Raises:
            TemplateError: The template raises at a question and its answer, or does not show them.
        """
        self._renderer, self.written, self.arguments_as_json = renderer, "", False
        self._once = [Message("user", _ASKS[0]), Message("assistant", _ANSWERS[0])]
        self._later = [Message("user", _ASKS[1]), Message("assistant", _ANSWERS[1])]
        self._prompt, self._text = self._plain_exchange()
        try:
            self._dialogue = self._rendered([*self._once, *self._later])
        except TemplateError:
            self._dialogue = self._text
        self._after_call = self._tool_call()
        self._verdicts = {**self._plain_parts(), **self._tool_parts()}

    def facts(self, control: ControlTokens) -> Facts:
        """Return what was found.

        Raises:
            TemplateError: No control token ends a turn.
        """
        ends = [self._plain_end(control)]
        called = [token for token, _, _ in control.written_in(self._after_call)]
        if called and ends[0] not in called:
            ends.append(called[-1])
        written = control.written_in(self._text, len(self._prompt))
        end = next(end for token, _, end in written if token in ends)
        verdicts = dict(self._verdicts)
        return Facts(
            end_tokens=tuple(ends),
            keeps_history=self._dialogue.startswith(self._text[:end]),
            needs_alternating_roles=bool(verdicts.pop("two messages of one role in a row")),
            trims_text=verdicts.pop("white space around a text") is None,
            arguments_as_json=self.arguments_as_json,
            left_out=tuple(what for what, verdict in verdicts.items() if verdict is None),
            refused={what: verdict for what, verdict in verdicts.items() if verdict},
        )

    def _plain_end(self, control: ControlTokens) -> str:
        """Return the token that ends a plain answer.

        It is the last of the control tokens that follow the answer without text between them, both
        as the last turn and as an earlier one; where those differ, as the last turn.
        """
        last, earlier = (text.partition(_ANSWERS[0])[2] for text in (self._text, self._dialogue))
        for tail in (_shared(last, earlier), last):
            if run := _first_run(control, tail):
                return run[-1]
        raise TemplateError(
            f"template {self._renderer.template.name}: nothing ends a turn: after an answer it "
            f"writes {last[:60]!r}, expected a token of the tokenizer's, such as its eos_token; a "
            "model would never stop"
        )

    def _plain_exchange(self) -> tuple[str, str]:
        """Render a question as a prompt, and with its answer.

        Raises:
            TemplateError: The template raises, shows too little, or begins the answer otherwise
                than it prompts for one.
        """
        prompt, text = self._rendered(self._once[:1], prompts=True), self._rendered(self._once)
        name = self._renderer.template.name
        absent = [each.content for each in self._once if each.content not in text]
        if absent:
            shown = f"only {text[:80]!r}" if text.strip() else "nothing"
            raise TemplateError(
                f"template {name}: it renders {shown} where a message says {absent[0]!r}: expected "
                "the text of every message"
            )
        if not text.startswith(prompt):
            same = len(_shared(prompt, text))
            raise TemplateError(
                f"template {name}: it prompts with {prompt[same:][:60]!r} where an answer begins "
                f"with {text[same:][:60]!r}: what a model generates would not be what it was "
                "trained on; use a template whose turns begin as its generation prompt ends"
            )
        return prompt, text

    def _plain_parts(self) -> dict[str, Verdict]:
        system = Message("system", "Ferncliff instructs")
        thinks = Message("assistant", _ANSWERS[0], reasoning="Lowmoor thinks")
        padded = Message("user", f"  {_ASKS[0]}  ")
        once, later = self._once, self._later
        return {
            "system messages": self._verdict([system, *once], "Ferncliff instructs"),
            "several turns": self._verdict([*once, *later], _ASKS[1]),
            "reasoning": self._verdict([once[0], thinks], "Lowmoor thinks"),
            "earlier reasoning": self._verdict([once[0], thinks, *later], "Lowmoor thinks"),
            "two messages of one role in a row": self._verdict([once[0], *later], _ASKS[0]),
            "white space around a text": self._verdict([padded, once[1]], padded.content),
        }

    def _tool_call(self) -> str:
        """Return what follows the arguments of a tool call; "" if none are shown."""
        messages = [self._once[0], Message("assistant", tool_calls=(_CALL,))]
        for self.arguments_as_json in (False, True):
            try:
                return self._rendered(messages, with_tools=True).partition("Skerryvore")[2]
            except TemplateError:
                continue
        self.arguments_as_json = False
        return ""

    def _tool_parts(self) -> dict[str, Verdict]:
        call = Message("assistant", "Wexford answers", tool_calls=(_CALL,))
        result = Message("tool", "Lantern on Foula", tool_call_id=_CALL.id, name=_CALL.name)
        messages = [self._once[0], call, result, self._once[1]]
        return {
            what: self._verdict(messages, shown, with_tools=True)
            for what, shown in {
                "tools": "Finds a lantern",
                "arguments of tool calls": "Skerryvore",
                "text beside tool calls": "Wexford answers",
                "results of tools": "Lantern on Foula",
            }.items()
        }

    def _verdict(
        self, messages: Sequence[Message], shown: str, *, with_tools: bool = False
    ) -> Verdict:
        try:
            return "" if shown in self._rendered(messages, with_tools=with_tools) else None
        except TemplateError as error:
            return str(error)

    def _rendered(
        self, messages: Sequence[Message], *, with_tools: bool = False, prompts: bool = False
    ) -> str:
        conversation = Conversation(tuple(messages), (_TOOL,) if with_tools else ())
        source = TemplateInput(
            self._renderer.template.text, arguments_as_json=self.arguments_as_json
        )
        render = self._renderer.prompt if prompts else self._renderer.turns
        text = render(source.messages(conversation), source.tools(conversation))
        self.written += text
        return text


def _first_run(control: ControlTokens, tail: str) -> list[str]:
    """Return the first control tokens of a text that nothing separates."""
    run: list[str] = []
    last = None
    for token, begin, end in control.written_in(tail):
        if last is not None and begin != last:
            break
        run.append(token)
        last = end
    return run


def _shared(one: str, other: str) -> str:
    """Return the beginning that two texts share."""
    length = next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    return one[:length]
