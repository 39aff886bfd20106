"""The bundled demo dataset: short instructions with one exact answer each, generated from a seed.

It is designed so that learning can be measured: every answer is checkable by exact match, and no
prompt occurs twice, so a held-out prompt is a new combination of known words, which only a model
that has learnt the task can answer. The tasks are those that attention learns early (find, copy,
order, look up), over some 80 words, so that a model of two million parameters learns them from
scratch in three epochs.

Knows nothing of tokens, prompt styles, or how examples are split.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple, TypeVar

import pyarrow as pa

from dolly_assets.conversations.tables import EXCHANGE_SCHEMA
from dolly_assets.core.errors import DatasetError

T = TypeVar("T")

MAX_EXAMPLES = 100_000
"""Up to here the tasks still have new prompts; the smallest ones run out of them first."""

THINGS_BY_KIND = {
    "animal": ("cat", "cow", "dog", "horse", "lion", "mouse"),
    "fruit": ("fig", "grape", "lemon", "melon", "pear", "plum"),
    "tool": ("brush", "drill", "hammer", "ladder", "saw", "spade"),
    "garment": ("belt", "coat", "dress", "hat", "scarf", "shirt"),
}
KIND_OF_THING = {thing: kind for kind, things in THINGS_BY_KIND.items() for thing in things}
THINGS = tuple(KIND_OF_THING)
COLOURS = ("black", "blue", "green", "red", "white", "yellow")
NAMES = ("Anna", "Ben", "Clara", "David", "Leo", "Maria")
CITIES = ("Athens", "Cairo", "London", "Oslo", "Paris", "Rome")
OPPOSITES = (
    ("big", "small"),
    ("fast", "slow"),
    ("full", "empty"),
    ("happy", "sad"),
    ("hard", "soft"),
    ("high", "low"),
    ("hot", "cold"),
    ("long", "short"),
    ("old", "young"),
    ("wet", "dry"),
)
OPPOSITE_OF = {word: other for pair in OPPOSITES for word, other in (pair, pair[::-1])}


class DemoExample(NamedTuple):
    """An example of one task."""

    instruction: str
    context: str
    response: str


# Only random() of `Random` is used: only that guarantees the same numbers in each Python version.
def _index(rng: Random, length: int) -> int:
    return int(rng.random() * length)


def _pick(rng: Random, items: Sequence[T]) -> T:
    return items[_index(rng, len(items))]


def _sample(rng: Random, items: Sequence[T], count: int) -> list[T]:
    pool = list(items)
    return [pool.pop(_index(rng, len(pool))) for _ in range(count)]


def _between(rng: Random, least: int, most: int) -> int:
    return least + _index(rng, most - least + 1)


def _words(items: Sequence[object]) -> str:
    return " ".join(map(str, items))


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _opposite(rng: Random) -> DemoExample:
    first, second = _sample(rng, tuple(OPPOSITE_OF), 2)
    templates = (
        "What are the opposites of {} and {}?",
        "Give the opposites of {} and {}.",
        "Name the opposites of {} and {}.",
    )
    answer = f"{OPPOSITE_OF[first]} and {OPPOSITE_OF[second]}"
    return DemoExample(_pick(rng, templates).format(first, second), "", answer)


def _classification(rng: Random) -> DemoExample:
    things = _sample(rng, THINGS, _between(rng, 2, 3))
    templates = (
        "What kind of thing is each of these?",
        "Say what kind of thing each word names.",
        "Classify each word.",
    )
    return DemoExample(
        _pick(rng, templates), _words(things), _words([KIND_OF_THING[thing] for thing in things])
    )


def _next_number(rng: Random) -> DemoExample:
    numbers = _sample(rng, range(1, 15), _between(rng, 2, 3))
    templates = (
        "Add one to each number.",
        "Which number comes after each of these?",
        "Increase each number by one.",
    )
    return DemoExample(
        _pick(rng, templates), _words(numbers), _words([number + 1 for number in numbers])
    )


def _comparison(rng: Random) -> DemoExample:
    first, second = _sample(rng, range(1, 11), 2)
    larger = (
        "Which number is larger, {} or {}?",
        "Which is more, {} or {}?",
        "Name the larger number: {} or {}.",
    )
    smaller = (
        "Which number is smaller, {} or {}?",
        "Which is less, {} or {}?",
        "Name the smaller number: {} or {}.",
    )
    choose, templates = _pick(rng, ((max, larger), (min, smaller)))
    return DemoExample(_pick(rng, templates).format(first, second), "", str(choose(first, second)))


def _counting(rng: Random) -> DemoExample:
    things = _sample(rng, THINGS, _between(rng, 2, 5))
    templates = (
        "How many words are there?",
        "Count the words on the list.",
        "How many things are on the list?",
    )
    return DemoExample(_pick(rng, templates), _words(things), str(len(things)))


def _position(rng: Random) -> DemoExample:
    things = _sample(rng, THINGS, _between(rng, 2, 4))
    place, ordinal = _pick(rng, ((0, "first"), (-1, "last")))
    templates = ("What is the {} word on the list?", "Name the {} word.", "Which word comes {}?")
    return DemoExample(_pick(rng, templates).format(ordinal), _words(things), things[place])


def _extraction(rng: Random) -> DemoExample:
    person, colour, thing, city = (_pick(rng, words) for words in (NAMES, COLOURS, THINGS, CITIES))
    question, answer = _pick(
        rng,
        (
            (f"Who bought the {thing}?", person),
            (f"Who was in {city}?", person),
            (f"What did {person} buy?", f"a {colour} {thing}"),
            (f"What was bought in {city}?", f"a {colour} {thing}"),
            (f"What colour is the {thing}?", colour),
            (f"Which colour did {person} choose?", colour),
            (f"Where was the {thing} bought?", city),
            (f"Where was {person}?", city),
        ),
    )
    return DemoExample(question, f"{person} bought a {colour} {thing} in {city}.", answer)


def _reversal(rng: Random) -> DemoExample:
    things = _sample(rng, THINGS, _between(rng, 2, 3))
    templates = (
        "Write these words in reverse order.",
        "Reverse the list.",
        "List these words from last to first.",
    )
    return DemoExample(_pick(rng, templates), _words(things), _words(things[::-1]))


def _sorting(rng: Random) -> DemoExample:
    numbers = _sample(rng, range(1, 10), _between(rng, 2, 3))
    templates = (
        "Sort these numbers.",
        "Put the numbers in order, smallest first.",
        "Order these numbers from low to high.",
    )
    return DemoExample(_pick(rng, templates), _words(numbers), _words(sorted(numbers)))


def _selection(rng: Random) -> DemoExample:
    kinds = _sample(rng, tuple(THINGS_BY_KIND), 3)
    things = [_pick(rng, THINGS_BY_KIND[kind]) for kind in kinds]
    asked = _index(rng, 3)
    templates = ("Which of these is {}?", "Find the word for {}.", "Which word names {}?")
    return DemoExample(
        _pick(rng, templates).format(_with_article(kinds[asked])), _words(things), things[asked]
    )


def _appending(rng: Random) -> DemoExample:
    *things, new = _sample(rng, THINGS, _between(rng, 3, 4))
    templates = (
        "Add {} to the end of the list.",
        "Append {} to the list.",
        "Write the list with {} added.",
    )
    return DemoExample(_pick(rng, templates).format(new), _words(things), _words([*things, new]))


TASKS: dict[str, Callable[[Random], DemoExample]] = {
    "opposite": _opposite,
    "classification": _classification,
    "next_number": _next_number,
    "comparison": _comparison,
    "counting": _counting,
    "position": _position,
    "extraction": _extraction,
    "reversal": _reversal,
    "sorting": _sorting,
    "selection": _selection,
    "appending": _appending,
}


def generate(seed: int = 42, examples: int = 12_000) -> pa.Table:
    """Generate the demo dataset.

    Args:
        seed: Another seed gives other examples of the same tasks.
        examples: How many; a smaller number gives the first ones of a larger.

    Returns:
        A canonical table whose prompts (instruction and context) are all different.

    Raises:
        DatasetError: `examples` is not between 1 and `MAX_EXAMPLES`.
    """
    if not 1 <= examples <= MAX_EXAMPLES:
        raise DatasetError(
            f"the demo dataset has at least one and at most {MAX_EXAMPLES} examples, not {examples}"
        )
    rng = Random(seed)  # noqa: S311 - no secrets here
    rows: dict[tuple[str, str], dict[str, str]] = {}
    while len(rows) < examples:
        category = _pick(rng, tuple(TASKS))
        example = TASKS[category](rng)
        rows.setdefault(
            (example.instruction, example.context), {**example._asdict(), "category": category}
        )
    return pa.Table.from_pylist(list(rows.values()), schema=EXCHANGE_SCHEMA)
