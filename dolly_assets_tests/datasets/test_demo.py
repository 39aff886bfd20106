import re
from collections import Counter

import pytest

from dolly_assets.conversations.tables import EXCHANGE_SCHEMA
from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.demo import KIND_OF_THING, MAX_EXAMPLES, OPPOSITE_OF, TASKS, generate
from dolly_assets.datasets.schema import content_digest

TABLE = generate()
ROWS = TABLE.to_pylist()


def test_it_has_the_canonical_columns_and_as_many_examples_as_asked() -> None:
    assert TABLE.schema.equals(EXCHANGE_SCHEMA)
    assert TABLE.num_rows == 12_000
    assert generate(examples=7).num_rows == 7


def test_a_seed_gives_the_same_examples_everywhere() -> None:
    """A changed digest makes all demo partitions stale, and its published scores invalid."""
    assert (
        content_digest(TABLE) == "7280dc8aa73fc5d8d1adbf60f9e20c6477bd4f73b4f6333191afeddd537c3f40"
    )


def test_another_seed_gives_other_examples() -> None:
    assert content_digest(generate(seed=1, examples=50)) != content_digest(
        generate(seed=2, examples=50)
    )


def test_fewer_examples_are_the_first_of_more() -> None:
    assert generate(examples=50).equals(TABLE.slice(0, 50))


def test_no_prompt_occurs_twice() -> None:
    assert len({(row["instruction"], row["context"]) for row in ROWS}) == len(ROWS)


def test_at_least_eight_tasks_have_their_share_with_and_without_context() -> None:
    shares = Counter(row["category"] for row in ROWS)

    assert set(shares) == set(TASKS)
    assert len(shares) >= 8
    assert min(shares.values()) > 0.03 * len(ROWS)
    assert 0.1 < sum(not row["context"] for row in ROWS) / len(ROWS) < 0.5


def test_text_is_clean() -> None:
    for row in ROWS:
        for value in row.values():
            assert value == value.strip()
            assert "{" not in value
            assert "  " not in value
            assert value.isascii()


def test_no_answer_can_be_guessed_from_its_task_alone() -> None:
    for task in TASKS:
        answers = Counter(row["response"] for row in ROWS if row["category"] == task)
        assert answers.most_common(1)[0][1] <= 0.55 * answers.total()


def numbers(text):
    return [int(word) for word in re.findall(r"\d+", text)]


def known_words(text, words):
    return [word for word in re.findall(r"\w+", text) if word in words]


def right_position(instruction, context):
    (ordinal,) = re.findall(r"first|last", instruction)
    return context.split()[{"first": 0, "last": -1}[ordinal]]


def right_comparison(instruction, _):
    return str((max if re.search("larger|more", instruction) else min)(numbers(instruction)))


def right_extraction(instruction, context):
    ((person, colour, thing, city),) = re.findall(
        r"^(\w+) bought a (\w+) (\w+) in (\w+)\.$", context
    )
    if instruction.startswith("Who"):
        return person
    if instruction.startswith("Where"):
        return city
    return colour if "colour" in instruction else f"a {colour} {thing}"


def right_selection(instruction, context):
    (kind,) = known_words(instruction, set(KIND_OF_THING.values()))
    (thing,) = [word for word in context.split() if KIND_OF_THING[word] == kind]
    return thing


CHECKS = {
    "opposite": lambda i, _: " and ".join(OPPOSITE_OF[w] for w in known_words(i, OPPOSITE_OF)),
    "classification": lambda _, c: " ".join(KIND_OF_THING[word] for word in c.split()),
    "next_number": lambda _, c: " ".join(str(n + 1) for n in numbers(c)),
    "comparison": right_comparison,
    "counting": lambda _, c: str(len(c.split())),
    "position": right_position,
    "extraction": right_extraction,
    "reversal": lambda _, c: " ".join(reversed(c.split())),
    "sorting": lambda _, c: " ".join(map(str, sorted(numbers(c)))),
    "selection": right_selection,
    "appending": lambda i, c: " ".join([*c.split(), *known_words(i, KIND_OF_THING)]),
}


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_right(task) -> None:
    """Recomputed by independent rules from the prompt, for every example of the task."""
    rows = [row for row in ROWS if row["category"] == task]

    for row in rows:
        assert row["response"] == CHECKS[task](row["instruction"], row["context"]), row


@pytest.mark.parametrize("examples", [0, -1, MAX_EXAMPLES + 1])
def test_a_number_of_examples_that_cannot_be_had_is_refused(examples) -> None:
    with pytest.raises(DatasetError, match=f"at most {MAX_EXAMPLES} examples, not {examples}"):
        generate(examples=examples)
