"""Texts that are, and texts that only look like, what a check is for."""

from collections.abc import Callable

import pyarrow as pa
import pytest

from dolly_assets.conversations.tables import EXCHANGE_SCHEMA
from dolly_assets.datasets.quality.encoding import encoding
from dolly_assets.datasets.quality.finding import QualityFinding
from dolly_assets.datasets.quality.language import languages_of
from dolly_assets.datasets.quality.patterns import known_bad_answers
from dolly_assets.datasets.quality.personal_data import personal_data
from dolly_assets.datasets.quality.records import Records
from dolly_assets.datasets.quality.split import folded


def kinds(
    check: Callable[[Records], QualityFinding],
    response: str,
    instruction: str = "Say it.",
    context: str = "",
) -> set:
    row = {"instruction": instruction, "context": context, "response": response, "category": ""}
    return set(check(Records(pa.Table.from_pylist([row], schema=EXCHANGE_SCHEMA))).kinds)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("dÃ©jÃ  vu", "wrongly decoded"),
        ("donâ€™t", "wrongly decoded"),
        ("a smile: ðŸ˜€", "wrongly decoded"),
        ("broken � here", "replacement character"),
        ("a\x00b", "control character"),
        ("half \\ud83d of it", "half a surrogate pair"),
    ],
)
def test_damage_is_seen(text: str, kind: str) -> None:
    assert kinds(encoding, text) == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "déjà vu, Ärger, naïve, 5 €",
        "tab\tand\r\nline",
        'print("\\ud83d\\ude00")',
        "ÂNGELO",
        "日本語",
        "👩‍👧",
    ],
)
def test_sound_text_is_not_called_damaged(text: str) -> None:
    assert not kinds(encoding, text)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat is on the mat and it was there for a while.", "English"),
        ("I wished to bring this to your attention.", "English"),
        ("Die Katze ist nicht auf dem Tisch und wird auch nicht kommen.", "German"),
        ("El gato está en la mesa y no quiere ser visto por los perros.", "Spanish"),
        ("O gato não está na mesa, mas você também pode ver os cães.", "Portuguese"),
        ("Il gatto è nella casa e non si muove più, anche se deve essere stanco.", "Italian"),
        ("Кошка сидит на столе и смотрит на собаку.", "Russian or another in Cyrillic"),
        ("猫はテーブルの上にいます。", "Japanese"),
        ("猫在桌子上。", "Chinese"),
        ("42, 17, 3.14", ""),
        ("cat dog mouse", ""),
    ],
)
def test_the_language_is_guessed_or_left_open(text: str, language: str) -> None:
    assert languages_of(pa.array([text], pa.large_string())) == [language]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jane.doe@acme-corp.org", "e-mail address"),
        ("IBAN GB82 WEST 1234 5698 7654 32", "account number (IBAN)"),
        ("card 4111 1111 1111 1111", "payment card"),
        ("call +49 30 901820 now", "phone number"),
        ("call (212) 736-5000 now", "phone number"),
        ("ping 93.184.216.34", "IP address"),
    ],
)
def test_personal_data_is_seen(text: str, kind: str) -> None:
    assert kinds(personal_data, text) == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "write to jane@example.com",
        "IBAN GB82 WEST 1234 5698 7654 33",  # a wrong checksum
        "card 4111 1111 1111 1112",
        "call (212) 555-0123",
        "ping 192.168.0.1 and 300.1.1.1",
        "version 1.2.3.4 of 2021-11-03",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
        "3.14159265358979",
    ],
)
def test_what_only_looks_like_personal_data_is_left_alone(text: str) -> None:
    assert not kinds(personal_data, text)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (("<noinput>",), "placeholder"),
        (("Fine.", "Say it.", "No input."), "placeholder"),
        (("I'm an AI and have no friends.",), "speaks as an AI"),
        (("I'm sorry, but I cannot access the article.",), "refuses"),
        (("A dog.", "What is in this picture?"), "unseen picture"),
        (("News.", "Summarize it.", "https://news.site/today"), "unseen page"),
        (("Here:\n```python\nprint(1)\n",), "open code fence"),
        (("...",), "no word in it"),
    ],
)
def test_bad_answers_are_seen(record: tuple[str, ...], kind: str) -> None:
    assert kinds(known_bad_answers, *record) == {kind}


@pytest.mark.parametrize(
    "record",
    [
        ("There was no input from the crowd.",),
        ("An AI lab opened in Paris.",),
        ("I'm sorry I missed your call.",),
        ("See the pictures of the museum.", "Write a caption."),
        ("Ok.", "Make a link.", "https://www.example.com/page"),
        ("```\nprint(1)\n```",),
        (":-)",),
        ("+",),
    ],
)
def test_good_answers_are_left_alone(record: tuple[str, ...]) -> None:
    assert kinds(known_bad_answers, *record) - {"no word in it"} == set()


def test_prompts_are_the_same_in_other_cases_and_spacing_but_not_with_other_signs() -> None:
    assert folded("What is  4 + 3?") == folded("what is 4 + 3")
    assert folded("What is 4 + 3?") != folded("What is 4 - 3?")
