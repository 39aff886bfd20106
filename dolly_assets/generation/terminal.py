"""A dialogue on a terminal: messages from standard input, answers token by token.

Answers go to standard output, and everything else to standard error, so that a script can read the
answers alone.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from dolly_assets.core.errors import ConfigurationError, TemplateError
from dolly_assets.core.text import count

if TYPE_CHECKING:
    from dolly_assets.generation.dialogue import Dialogue

HELP = """\
/reset          forget what was said
/system TEXT    forget it, and tell the model TEXT before everything else; without TEXT, nothing
/context TEXT   what your next message refers to
/help           these commands
/exit           leave, as do Ctrl-D and Ctrl-C"""


def describe(dialogue: "Dialogue") -> str:
    """Return a line on the model that was loaded."""
    loaded, limit = dialogue.loaded, dialogue.context_tokens
    context = f", context {limit:,} tokens" if limit else ""
    return (
        f"loaded {type(loaded.model).__name__}: {loaded.model.num_parameters():,} parameters on "
        f"{loaded.model.device.type}, template {loaded.encoder.template.name}{context}"
    )


def chat(dialogue: "Dialogue", *, context: str = "", suggestions: Sequence[str] = ()) -> None:
    """Hold a dialogue until `/exit`, the end of the input, or Ctrl-C.

    Args:
        dialogue: With the model, and perhaps what was said before.
        context: What the first message refers to.
        suggestions: What a user may ask.
    """
    if suggestions:
        _note(f"ask something, for instance: {' | '.join(suggestions)}")
    _note("/help lists the commands, /exit leaves")
    terminal = _Terminal(dialogue, context)
    with suppress(EOFError, KeyboardInterrupt):
        while terminal.answered(_line()):
            pass


class _Terminal:
    """Carries out what is typed."""

    def __init__(self, dialogue: "Dialogue", context: str) -> None:
        self._dialogue, self._context = dialogue, context

    def answered(self, line: str) -> bool:
        """Carry out a line; return whether the dialogue continues."""
        if not line.startswith("/"):
            if line:
                self._ask(line)
            return True
        command, _, text = line.partition(" ")
        text = text.strip()
        if command == "/exit":
            return False
        if command == "/reset":
            self._dialogue.reset()
            _note("forgot what was said")
        elif command == "/system":
            self._dialogue.system = text
            self._dialogue.reset()
            _note(f"a new dialogue, which begins with: {text}" if text else "a new dialogue")
        elif command == "/context":
            self._context = text
            _note("your next message refers to it" if text else "your next message has no context")
        else:
            _note(HELP if command == "/help" else f"unknown command {command}; known:\n{HELP}")
        return True

    def _ask(self, text: str) -> None:
        """Print the answer to a message, or why there is none."""
        from transformers import TextStreamer

        tokenizer = self._dialogue.loaded.tokenizer
        streamer = TextStreamer(
            tokenizer,  # pyright: ignore[reportArgumentType]
            skip_prompt=True,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        try:
            reply = self._dialogue.ask(text, self._context, streamer=streamer)
        except (ConfigurationError, TemplateError) as error:
            _note(str(error))
            return
        self._context = ""
        if not reply.text:
            _note("(no answer)")
        if reply.forgotten:
            _note(
                f"the context of {self._dialogue.context_tokens:,} tokens is full: the oldest "
                f"{count(reply.forgotten, 'message')} of the dialogue were left out"
            )


def _line() -> str:
    """Return the next line that is typed, with a prompt where a person types it."""
    is_typed = sys.stdin.isatty()
    if is_typed:
        with suppress(ImportError):
            import readline  # noqa: F401 input() edits lines with it
    return input("> " if is_typed else "").strip()


def _note(text: str) -> None:
    click.echo(text, err=True)
