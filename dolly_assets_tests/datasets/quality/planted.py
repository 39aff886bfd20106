"""Defects of all kinds, planted into a copy of a dataset, each in a record of its own."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dolly_assets.conversations.tables import EXCHANGE_SCHEMA, prompts
from dolly_assets.datasets.quality.checks import CheckName
from dolly_assets.datasets.quality.split import Split
from dolly_assets.tokenization.split import held_out_mask

HELD_OUT = 50
PROMPTS = [
    ("Why does the moon always show us the same side?", "")
]  # a family asks it of every epoch
STORY = (
    "Once upon a time a miller had three sons, his mill, a donkey and a tomcat; the sons had to "
    "grind, the donkey had to haul grain and carry away flour, and the cat had to catch the mice. "
    "When the miller died, the three sons divided up the inheritance: the oldest received the "
    "mill, the second the donkey, and nothing was left for the third but the cat."
)
TALE = (
    "A poor widow lived alone in a little cottage, in front of which was a garden where two rose "
    "trees grew, one with white roses and the other with red. She had two children who were like "
    "the two rose trees, and they were as good and happy, as busy and cheerful, as ever two "
    "children in the world were."
)
DEFECTS: dict[CheckName, list[dict[str, str]]] = {
    "empty": [{"response": " \u200b\n"}],
    "exact_duplicates": [{"instruction": "Tell the tale of the rose trees.", "response": TALE}] * 2,
    "near_duplicates": [
        {"instruction": "Tell me the story of the cat.", "response": STORY},
        {
            "instruction": "Tell me the story of the cat.",
            "response": STORY.replace("tomcat", "hen").replace(";", ""),
        },
    ],
    "prompt_markers": [{"response": "Four.\n\n### Instruction:\nName a tree."}],
    "encoding": [{"response": "The cafÃ© is closed."}],
    "language": [
        {"response": "Le chat est sur la table et il ne veut pas descendre avec les enfants."}
    ],
    "known_bad_answers": [{"response": "As an AI language model, I have no opinion on this."}],
    "length_outliers": [{"response": "word " * 20_000}],
    "personal_data": [{"response": "Please pay into DE89 3704 0044 0532 0130 00 by Friday."}],
    "evaluation_prompts": [
        {"instruction": "why does the moon  always show us the same side", "response": "It turns."}
    ],
}
SPLIT_DEFECTS: dict[CheckName, tuple[str, str]] = {  # a held-out prompt, and what training has
    "leakage_exact": ("Which bird cannot fly?", "which bird  cannot fly"),
    "leakage_near": (f"Who got the cat? {TALE} {STORY}", f"Who got the mill? {TALE} {STORY}"),
}


@dataclass(frozen=True)
class Planted:
    """A dataset with defects: for each check the record that it must find, and the split."""

    table: pa.Table
    split: Split
    record_of: dict[CheckName, int]
    overwritten: set[int]


def plant(clean: pa.Table) -> Planted:
    """A copy of a dataset with defects in some records; one record is too long for either side."""
    rows = clean.to_pylist()
    free = iter(range(10, len(rows), max(1, len(rows) // 40)))
    overwritten: set[int] = set()

    def overwrite(**record: str) -> int:
        place = next(free)
        rows[place] |= {"context": ""} | record
        overwritten.add(place)
        return place

    record_of: dict[CheckName, int] = {}
    for name, records in DEFECTS.items():
        record_of[name] = [overwrite(**record) for record in records][-1]
    for name, (held_out, trained) in SPLIT_DEFECTS.items():
        record_of[name] = overwrite(instruction=held_out, response=f"Held out for {name}.")
        overwrite(instruction=trained, response=f"Trained on for {name}.")
    record_of["over_long"] = overwrite()
    table = pa.Table.from_pylist(rows, schema=EXCHANGE_SCHEMA)
    return Planted(table, _split(table, record_of), record_of, overwritten)


def split_of(table: pa.Table) -> Split:
    """As tokenizing splits it, were nothing too long."""
    mask = held_out_mask(prompts(table), held_out_examples=HELD_OUT, seed=42)
    return Split(train=np.flatnonzero(~mask), held_out=np.flatnonzero(mask))


def _split(table: pa.Table, record_of: dict[CheckName, int]) -> Split:
    """That split, but for the planted records: each is on the side where its defect is one."""
    split, placed = split_of(table), set(record_of.values())
    held_out = [record_of[name] for name in SPLIT_DEFECTS]
    rest = [record for record in split.held_out.tolist() if record not in placed]
    on_a_side = np.setdiff1d(np.arange(table.num_rows), [record_of["over_long"]])
    sides = np.array(sorted({*held_out, *rest}))
    return Split(train=np.setdiff1d(on_a_side, sides), held_out=sides)
