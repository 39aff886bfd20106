import io
import signal

import pytest

from dolly_assets.core.errors import BaseModelError
from dolly_assets.generation.playground import ask, chat
from dolly_assets.generation.sample import Prompt
from dolly_assets.tokenization.prompt_style import PromptStyle

STYLE = PromptStyle()


@pytest.fixture
def folder(parrot, tokenizer, tmp_path):
    parrot.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def talk(monkeypatch, capsys, folder, typed: str, **settings) -> str:
    """Everything that the terminal shows after `typed` was typed."""
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    chat(folder, STYLE, temperature=0, **settings)
    return capsys.readouterr().out


def test_every_message_is_answered_until_exit(monkeypatch, capsys, folder) -> None:
    shown = talk(monkeypatch, capsys, folder, "Say Anna.\nSay Ben.\n/exit\nSay Tom.\n")
    assert "Anna" in shown
    assert "Ben" in shown
    assert "Tom" not in shown
    assert "### End" not in shown


def test_the_end_of_the_input_leaves(monkeypatch, capsys, folder) -> None:
    assert "Tom" in talk(monkeypatch, capsys, folder, "\n  \nSay Tom.\n")


@pytest.fixture
def interrupts_as_python_starts_with():
    """What runs before may have set a handler of its own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts_as_python_starts_with")
def test_ctrl_c_while_answering_leaves(monkeypatch, folder) -> None:
    """A real SIGINT, sent when the first piece of the answer reaches the terminal."""

    class Terminal(io.StringIO):
        interrupted = False

        def write(self, text: str) -> int:
            written = super().write(text)
            if not self.interrupted and text.strip() not in ("", ">"):
                self.interrupted = True
                signal.raise_signal(signal.SIGINT)
            return written

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stdin", io.StringIO("Say Clara the second.\nSay Anna.\n"))
    chat(folder, STYLE, temperature=0)
    monkeypatch.undo()

    assert terminal.interrupted
    assert "second" not in terminal.getvalue()
    assert "Anna" not in terminal.getvalue()


def test_asking_returns_the_answer(folder) -> None:
    assert ask(folder, STYLE, Prompt(instruction="Say Ben."), temperature=0) == "Ben"


def test_a_folder_without_a_model_is_an_error(tmp_path) -> None:
    for talk_to in (
        lambda: chat(tmp_path, STYLE),
        lambda: ask(tmp_path, STYLE, Prompt(instruction="Hi")),
    ):
        with pytest.raises(BaseModelError):
            talk_to()
