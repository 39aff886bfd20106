"""A chat template in Go's language, for Ollama, which has no Jinja.

A template is not translated: what it writes around the messages is found by rendering it, and the
result is proven on other conversations. A template that does more, such as changing what a message
says, cannot be written. It knows templates and text, not Ollama's files.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import TemplateError

if TYPE_CHECKING:
    from dolly_assets.tokenization.templates.render import Renderer

_SYSTEM, _ASKED, _SAID, _ASKED_AGAIN = "Zq one", "Zq two", "Zq three", "Zq four"
_TEXTS = (
    "What is 2 + 2?",
    'Write "{{ .System }}" twice,\n\nthen stop.',
    "Ünïcode 漢字 – and a \\ backslash",
    "<b>plain</b> {% if x %} text",
    "1. one\n2. two",
)


@dataclass(frozen=True)
class Layout:
    """What a template writes around the messages of a dialogue.

    Attributes:
        opening: Before the first question, without a system message.
        before_system: Before a system message; None where the template refuses one.
        after_system: Between it and the first question.
        answer: Between a question and the answer to it, once that is history.
        question: Between an answer and the next question.
        generation: After the last question.
    """

    opening: str
    before_system: str | None
    after_system: str
    answer: str
    question: str
    generation: str

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the prompt of a dialogue, as the Go template writes it."""
        text, is_open = "", False
        system = [each["content"] for each in messages if each["role"] == "system"]
        for each in messages:
            if each["role"] == "user":
                if is_open:
                    text += self.question
                elif system and self.before_system is not None:
                    text += self.before_system + system[0] + self.after_system
                else:
                    text += self.opening
                is_open = True
                text += each["content"]
            elif each["role"] == "assistant":
                text += self.answer + each["content"]
        return text + self.generation

    def without(self, beginning: str) -> "Layout":
        """Return it without a text that servers put at the beginning themselves."""
        before = self.before_system
        return replace(
            self,
            opening=self.opening.removeprefix(beginning),
            before_system=None if before is None else before.removeprefix(beginning),
        )

    def in_go(self) -> str:
        """Return it as a template of Go, over what Ollama offers one."""
        system = (
            f"{{{{- else if $.System -}}}}{_literal(self.before_system)}{{{{ $.System }}}}"
            f"{_literal(self.after_system)}"
            if self.before_system is not None
            else ""
        )
        return (
            "{{- $begun := false -}}"
            "{{- range $i, $m := .Messages -}}"
            '{{- if eq $m.Role "user" -}}'
            f"{{{{- if $begun -}}}}{_literal(self.question)}"
            f"{system}"
            f"{{{{- else -}}}}{_literal(self.opening)}"
            "{{- end -}}"
            "{{- $begun = true -}}{{ $m.Content }}"
            "{{- if eq (len (slice $.Messages $i)) 1 -}}"
            f"{_literal(self.generation)}"
            "{{- end -}}"
            '{{- else if eq $m.Role "assistant" -}}'
            f"{_literal(self.answer)}{{{{ $m.Content }}}}"
            "{{- end -}}"
            "{{- end -}}"
        )


def layout_of(renderer: "Renderer") -> Layout:
    """Return what a template writes around messages.

    Raises:
        TemplateError: It does more than that, or refuses a plain dialogue.
    """
    asked = {"role": "user", "content": _ASKED}
    opening, generation = _around(renderer, [asked], [_ASKED])
    said = {"role": "assistant", "content": _SAID}
    again = {"role": "user", "content": _ASKED_AGAIN}
    _, answer, question, _ = _around(renderer, [asked, said, again], [_ASKED, _SAID, _ASKED_AGAIN])
    before, after = _system(renderer, asked)
    layout = Layout(opening, before, after, answer, question, generation)
    for messages in _dialogues(has_system=before is not None):
        if layout.render(messages) != renderer.prompt(messages, []):
            raise _more_than_text(renderer, f"a dialogue of {len(messages)} messages")
    return layout


def _system(renderer: "Renderer", asked: dict[str, str]) -> tuple[str | None, str]:
    """Return what stands around a system message; None where there is no place for one."""
    system = {"role": "system", "content": _SYSTEM}
    try:
        rendered = renderer.prompt([system, asked], [])
    except TemplateError:
        return None, ""
    if _SYSTEM not in rendered:
        return None, ""
    before, after, _ = _around(renderer, [system, asked], [_SYSTEM, _ASKED])
    return before, after


def _around(
    renderer: "Renderer", messages: Sequence[Mapping[str, Any]], texts: Sequence[str]
) -> list[str]:
    """Return what a rendering has before, between and after the messages' texts."""
    rest, parts = renderer.prompt(messages, []), list[str]()
    for text in texts:
        part, found, rest = rest.partition(text)
        if not found or text in rest:
            raise _more_than_text(renderer, "a message once and as it is")
        parts.append(part)
    return [*parts, rest]


def _dialogues(*, has_system: bool) -> Iterator[list[dict[str, str]]]:
    """Yield dialogues of several lengths, with and without a system message."""
    turns = [
        {"role": "assistant" if at % 2 else "user", "content": text}
        for at, text in enumerate(_TEXTS)
    ]
    for length in range(1, len(turns) + 1, 2):
        yield turns[:length]
        if has_system:
            yield [{"role": "system", "content": _TEXTS[-length]}, *turns[:length]]


def _literal(text: str | None) -> str:
    """Return a text as an action of Go's templates that writes it."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


def _more_than_text(renderer: "Renderer", what: str) -> TemplateError:
    return TemplateError(
        f"template {renderer.template.name}: it cannot be written in Go, the language of Ollama's "
        f"templates: it does not write {what} with fixed texts around each message; export gguf, "
        "which llama.cpp prompts with the template itself"
    )
