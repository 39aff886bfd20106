"""The pieces of an answer together are its text, and no piece is taken back."""

import pytest

from dolly_assets.generation.answer_text import AnswerText


def pieces(tokenizer, text: str, stops=()) -> tuple[list[str], bool]:
    """What is shown after each token, and at the end."""
    answer = AnswerText(tokenizer, stops)
    shown = []
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        shown.append(answer.add(token))
        if answer.is_stopped:
            break
    return [*shown, answer.end()], answer.is_stopped


@pytest.mark.parametrize(
    "text",
    ["brush grape", " two\nlines \n", "naïve 日本語 🐳 ok", "🐳", "   ", "", "a  b   c", "é"],
)
def test_together_they_are_the_stripped_text(tokenizer, text: str) -> None:
    assert "".join(pieces(tokenizer, text)[0]) == text.strip()


def test_an_incomplete_character_is_shown_when_it_ends_the_answer(tokenizer) -> None:
    whale = tokenizer("🐳", add_special_tokens=False)["input_ids"]
    answer = AnswerText(tokenizer)
    assert [answer.add(token) for token in whale[:-1]] == [""] * (len(whale) - 1)
    assert answer.end() == tokenizer.decode(whale[:-1])


@pytest.mark.parametrize(
    ("stops", "expected"),
    [(["three"], "one two"), (["e t"], "on"), (["x", "two"], "one"), (["one"], ""), (["z"], None)],
)
def test_it_ends_before_a_stop_string(tokenizer, stops: list[str], expected: str | None) -> None:
    text = "one two three"
    found, is_stopped = pieces(tokenizer, text, stops)
    assert "".join(found) == (text if expected is None else expected)
    assert is_stopped == (expected is not None)


def test_the_beginning_of_a_stop_string_is_held_back(tokenizer) -> None:
    answer = AnswerText(tokenizer, ["abc!"])
    shown = [
        answer.add(token) for token in tokenizer("x ab", add_special_tokens=False)["input_ids"]
    ]
    assert "".join(shown) == "x"
    assert answer.end() == " ab"
