"""What is measured of an answer's text."""

import pytest

from dolly_assets.scoring import texts


@pytest.mark.parametrize(
    ("answer", "expected", "f1"),
    [
        ("The cat sat.", "a cat sat", 1.0),
        ("cat", "cat sat", 2 / 3),
        ("dog", "cat", 0.0),
        ("", "", 1.0),
        ("", "cat", 0.0),
        ("cat cat", "cat", 2 / 3),  # a word counts as often as both have it
    ],
)
def test_token_f1_is_squads(answer: str, expected: str, f1: float) -> None:
    assert texts.token_f1(answer, expected) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("answer", "is_refusal"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("As an AI language model, I do not know.", True),
        ("I cannot answer this.", True),
        ("The shop said: I'm sorry", True),
        ("Berlin.", False),
        ("Paris is a city. " * 10 + "I cannot say more.", False),  # only its beginning counts
    ],
)
def test_refusals_are_recognized_by_their_beginning(answer: str, is_refusal: bool) -> None:
    assert texts.is_refusal(answer) is is_refusal


def test_repetition_and_copying_are_shares_of_word_sequences() -> None:
    words = " ".join(f"w{n}" for n in range(10))
    assert texts.repeated_share(words) == 0.0
    assert texts.repeated_share("so it goes on " * 5) > 0.7
    assert texts.copied_share(words, f"read this: {words}") == 1.0
    assert texts.copied_share(words, "something else") == 0.0
    assert texts.copied_share("too short", "too short") == 0.0


def test_distinct_n_counts_over_all_answers() -> None:
    assert texts.distinct_share(["a b", "a b"], 1) == 0.5
    assert texts.distinct_share(["a"], 2) is None
