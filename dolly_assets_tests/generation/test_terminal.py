"""Dialogues on a terminal, and what a model remembers of them."""

import io
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.conversations import Conversation, Message
from dolly_assets.core.errors import BaseModelError, ConfigurationError
from dolly_assets.generation.answer import answer
from dolly_assets.generation.dialogue import Dialogue, Settings
from dolly_assets.generation.model import LoadedModel, load_with_template
from dolly_assets.generation.terminal import chat, describe
from dolly_assets.tokenization.prompt_style import PromptStyle

STYLE = PromptStyle()
GREEDY = Settings(temperature=0, max_new_tokens=24)


@pytest.fixture
def loaded(parrot, tokenizer, encoder) -> LoadedModel:
    return LoadedModel(parrot, tokenizer, encoder)


Talk = Callable[..., tuple[str, str]]


@pytest.fixture
def talk(monkeypatch, capsys, loaded) -> Talk:
    """Types into a dialogue; returns the answers, and what is written beside them."""

    def typed(text: str, **changed: Any) -> tuple[str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        chat(Dialogue(loaded, GREEDY), **changed)
        return tuple(capsys.readouterr())

    return typed


def test_every_message_is_answered_until_exit(talk: Talk) -> None:
    answers, _ = talk("Say Anna.\n/reset\nSay Ben.\n/exit\nSay Tom.\n")
    assert answers == "Anna\n\n\nBen\n\n\n"


def test_the_end_of_the_input_leaves(talk: Talk) -> None:
    answers, _ = talk("\n  \nSay Tom.\n")
    assert answers.strip() == "Tom"


def test_what_can_be_asked_and_typed_is_shown_beside_the_answers(talk: Talk) -> None:
    answers, notes = talk("/help\n/what\n", suggestions=["Say Ben.", "Say Tom."])
    assert answers == ""
    assert "ask something, for instance: Say Ben. | Say Tom." in notes
    assert "/help lists the commands, /exit leaves" in notes
    assert "/system TEXT" in notes
    assert "unknown command /what" in notes


def test_the_dialogue_says_what_it_loaded(loaded: LoadedModel) -> None:
    line = describe(Dialogue(loaded))
    assert line.startswith("loaded LlamaForCausalLM: ")
    assert line.endswith("parameters on cpu, template dolly, context 2,048 tokens")


def test_what_was_said_is_part_of_the_next_prompt_until_it_is_reset(loaded: LoadedModel) -> None:
    """Each answer is that of the model to the whole conversation, as it is trained."""

    def expected(*messages: Message) -> str:
        prompt = loaded.encoder.prompt(Conversation(messages))
        [text] = answer(
            loaded.model,
            loaded.tokenizer,
            [prompt],
            end_token_ids=loaded.encoder.end_token_ids,
            max_new_tokens=GREEDY.max_new_tokens,
        )
        return text

    system = Message("system", "Be short.")
    first, second = Message("user", "Say Anna."), Message("user", "And?", context="Ben is here.")
    dialogue = Dialogue(loaded, GREEDY, system="Be short.")
    said = dialogue.ask("Say Anna.").text
    assert said == expected(system, first)
    told = (system, first, Message("assistant", said), second)
    assert dialogue.ask("And?", "Ben is here.").text == expected(*told)
    assert len(dialogue.messages) == 4
    dialogue.reset()
    assert dialogue.ask("Say Anna.").text == said


def test_the_oldest_exchanges_are_left_out_where_the_context_is_full(
    loaded: LoadedModel, talk: Talk, monkeypatch
) -> None:
    whole = Dialogue(loaded, GREEDY)
    for message in ("Say Anna.", "Say Ben."):
        whole.ask(message)
    asked = Conversation((*whole.messages, Message("user", "Say Tom.")))
    limit = len(loaded.encoder.prompt(asked)) + GREEDY.max_new_tokens - 1
    monkeypatch.setattr(loaded.model.config, "max_position_embeddings", limit)
    answers, notes = talk("Say Anna.\nSay Ben.\nSay Tom.\n")
    assert answers.startswith("Anna\n")
    assert notes.count("left out") == 1
    assert f"the context of {limit} tokens is full: the oldest 2 messages of" in notes
    one = len(loaded.encoder.prompt(Conversation((Message("user", "Say Anna."),))))
    monkeypatch.setattr(loaded.model.config, "max_position_embeddings", one + 2)
    assert len(Dialogue(loaded, GREEDY).ask("Say Anna.").text) <= len("Anna")
    long = "Say Anna. " * 20
    _, notes = talk(f"{long}\nSay Anna.\n")
    assert f"and the model's context has {one + 2}: shorten it" in notes
    with pytest.raises(ConfigurationError, match="shorten it"):
        Dialogue(loaded, GREEDY).ask(long)


def test_a_system_message_begins_a_new_dialogue_and_a_context_is_for_one_message(
    loaded: LoadedModel, talk: Talk
) -> None:
    dialogue = Dialogue(loaded, GREEDY, system="Be short.")
    expected = [dialogue.ask("Say Ben.", "Tom").text, dialogue.ask("Say Anna.").text]
    answers, notes = talk("Hi.\n/system Be short.\n/context Tom\nSay Ben.\nSay Anna.\n")
    assert [line.strip() for line in answers.splitlines() if line.strip()][-2:] == expected
    assert "a new dialogue, which begins with: Be short." in notes


def test_reasoning_is_remembered_apart_from_what_was_answered(loaded: LoadedModel) -> None:
    class Thoughtful:
        """The parrot's tokenizer, which reads a thought into every answer."""

        def __init__(self, tokenizer: Any) -> None:
            self._tokenizer = tokenizer

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tokenizer, name)

        def batch_decode(self, *arguments: Any, **options: Any) -> list[str]:
            return [
                f"<think>\nEasy.\n</think>\n\n{text}"
                for text in self._tokenizer.batch_decode(*arguments, **options)
            ]

    dialogue = Dialogue(replace(loaded, tokenizer=Thoughtful(loaded.tokenizer)), GREEDY)
    assert dialogue.ask("Say Anna.").text == "<think>\nEasy.\n</think>\n\nAnna"
    assert dialogue.messages[-1] == Message("assistant", "Anna", reasoning="Easy.")


@pytest.fixture
def interrupts_as_python_starts_with():
    """What runs before may have set a handler of its own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts_as_python_starts_with")
def test_ctrl_c_while_answering_leaves(monkeypatch, loaded: LoadedModel) -> None:
    """A real SIGINT, sent when the first piece of the answer reaches the terminal."""

    class Terminal(io.StringIO):
        interrupted = False

        def write(self, text: str) -> int:
            written = super().write(text)
            if not self.interrupted and text.strip():
                self.interrupted = True
                signal.raise_signal(signal.SIGINT)
            return written

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stdin", io.StringIO("Say Clara the second.\nSay Anna.\n"))
    chat(Dialogue(loaded, GREEDY))
    monkeypatch.undo()

    assert terminal.interrupted
    assert "second" not in terminal.getvalue()
    assert "Anna" not in terminal.getvalue()


ON_A_TERMINAL = """
import sys
from pathlib import Path
from dolly_assets.generation.dialogue import Dialogue, Settings
from dolly_assets.generation.model import load_with_template
from dolly_assets.generation.terminal import chat
from dolly_assets.tokenization.prompt_style import PromptStyle

loaded = load_with_template(Path(sys.argv[1]), PromptStyle())
chat(Dialogue(loaded, Settings(temperature=0, max_new_tokens=24)), suggestions=["Say Tom."])
"""


@pytest.mark.slow
def test_on_a_terminal_each_message_follows_a_prompt(loaded: LoadedModel, tmp_path: Path) -> None:
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, str(tmp_path)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, b"Say Anna.\n/reset\nSay Ben.\n/exit\n")
    shown = b""
    with suppress(OSError):  # which ends the output of a pseudo-terminal
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode().replace("\r", "")
    assert "ask something, for instance: Say Tom." in text
    assert text.count("> ") == 4
    assert text.index("Anna\n\n") < text.index("forgot what was said") < text.index("Ben\n\n")


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError):
        load_with_template(tmp_path, STYLE)
