"""Rendering a chat template by transformers, sandboxed and with limits.

It knows messages as templates read them, and text; it knows no tokens.
"""

import signal
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dolly_assets.core.errors import TemplateError
from dolly_assets.core.text import one_line
from dolly_assets.tokenization.templates.template import Template

RENDER_SECONDS = 20.0
"""All beginnings of a conversation of hundreds of turns render in less."""
LARGEST_CHARACTERS = 1 << 26
"""Of all beginnings of a conversation; more is a template that repeats itself."""

_FILE = "<template>"  # which Jinja calls a template that came from no file

Messages = Sequence[Mapping[str, Any]]


class Renderer:
    """Renders conversations through one template.

    A template runs in Jinja's sandbox, as transformers sets it up: it reaches nothing but the
    messages. One that takes too long is stopped, if the caller runs on the main thread, where
    alarms arrive.
    """

    def __init__(self, template: Template, special_tokens: Mapping[str, Any]) -> None:
        """Prepare to render.

        Args:
            template: The template.
            special_tokens: What templates read as `bos_token`, `eos_token` and so on.
        """
        self.template, self._variables = template, dict(special_tokens)

    def prompt(self, messages: Messages, tools: Sequence[Any]) -> str:
        """Return what a model is prompted with to answer the messages."""
        return self.prompts([messages], tools)[0]

    def turns(self, messages: Messages, tools: Sequence[Any]) -> str:
        """Return the messages alone."""
        return self.beginnings([messages], tools)[0]

    def prompts(self, beginnings: Sequence[Messages], tools: Sequence[Any]) -> list[str]:
        """Return what a model is prompted with to answer each beginning of a conversation."""
        return self._render(beginnings, tools, wants_answer=True)

    def beginnings(self, beginnings: Sequence[Messages], tools: Sequence[Any]) -> list[str]:
        """Return each beginning of a conversation alone."""
        return self._render(beginnings, tools, wants_answer=False)

    def _render(
        self, beginnings: Sequence[Messages], tools: Sequence[Any], *, wants_answer: bool
    ) -> list[str]:
        """Render, in one call: much of its time does not depend on the messages.

        Raises:
            TemplateError: The template raises, takes too long, or renders far too much.
        """
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            with _deadline(RENDER_SECONDS):
                texts, _ = render_jinja_template(
                    list(beginnings),  # pyright: ignore[reportArgumentType]
                    tools=tools or None,  # pyright: ignore[reportArgumentType]
                    chat_template=self.template.text,
                    add_generation_prompt=wants_answer,
                    **self._variables,
                )
        except Exception as error:  # a template can raise whatever Python can
            raise self._problem(error) from error
        if (characters := sum(map(len, texts))) > LARGEST_CHARACTERS:
            raise TemplateError(
                f"template {self.template.name}: it renders {characters:,} characters, expected at "
                f"most {LARGEST_CHARACTERS:,} for a conversation"
            )
        return list(texts)

    def _problem(self, error: Exception) -> TemplateError:
        """Return an error that names the template's line."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == _FILE]
        line = lines[-1] if lines else getattr(error, "lineno", None)
        at = f", line {line}" if line else ""
        if isinstance(error, TimeoutError | MemoryError):
            what = f"it did not end within {RENDER_SECONDS:.0f} seconds or the machine's memory"
        else:
            what = one_line(error) or type(error).__name__
        return TemplateError(f"template {self.template.name}{at}: {what}")


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block after a time, if on the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)
