"""Records of suites that the training data holds, and the scores without them."""

import pyarrow as pa
import pytest

from dolly_assets.conversations.tables import EXCHANGE_SCHEMA
from dolly_assets.datasets.quality.records import Records
from dolly_assets.suites.contamination import (
    contaminated,
    marked,
    sentence,
    without_contaminated,
)
from dolly_assets.suites.records import Record
from dolly_assets.suites.results import rows_of

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
TRAINING = Records(
    pa.Table.from_pylist(
        [
            {
                "instruction": "Count to fifteen, please.",
                "context": "",
                "response": f"Gladly: {LONG}!",
                "category": "",
            },
            {
                "instruction": "Legs of a cat?",
                "context": "",
                "response": "Four.",
                "category": "",
            },
        ],
        EXCHANGE_SCHEMA,
    )
)


def record(**fields: object) -> Record:
    return Record.model_validate({"id": "1", "line": 1, "scorer": "exact", **fields})


@pytest.mark.parametrize(
    ("asked", "is_contaminated"),
    [
        # Thirteen words in sequence, whatever stands around them, and however they are spelt.
        (record(prompt=f"What follows? {LONG.upper()}", expected="sixteen"), True),
        (record(prompt=" ".join(LONG.split()[:13]) + " and so on", expected="x"), True),
        (record(prompt=" ".join(LONG.split()[:12]) + " and so on", expected="x"), False),
        # A shorter one as a whole, with its answer.
        (record(prompt="Legs of a cat?", expected="four"), True),
        (record(prompt="Legs of a cat?", expected="two"), False),
        (record(prompt="Legs of a cat?", expected=["4", "four"]), True),
        (record(prompt="Legs of a cat?", expected="^(4|four)$", scorer="regex"), True),
        (record(scorer="text", text=f"It said: {LONG}"), True),
        # Too short to mean anything.
        (record(prompt="Legs of?", expected="a"), False),
    ],
)
def test_a_record_is_contaminated_if_a_training_record_gives_it_away(
    asked: Record, *, is_contaminated: bool
) -> None:
    found = contaminated({"legs": [asked], "empty": []}, TRAINING)
    assert found == {"legs": frozenset(["1"] if is_contaminated else []), "empty": frozenset()}


def test_scores_are_also_stated_without_contaminated_records() -> None:
    scores = (1.0, 1.0, 0.0, 0.0)
    rows = [{"id": str(at), "score": score} for at, score in enumerate(scores)]
    results = rows_of(rows)
    assert marked(results, None).equals(results)
    clean = without_contaminated(marked(results, frozenset("0")))
    assert clean
    assert clean.score.value == pytest.approx(1 / 3)
    assert sentence(1, 4, clean).startswith(
        "1 of 4 records shares a sequence of words with training records; without them the score "
        "is 0.333 ("
    )
    assert without_contaminated(marked(results, frozenset())) is None
    every = without_contaminated(marked(results, frozenset("0123")))
    assert every
    assert every.score.value is None
