"""The records that stand out by their loss in the training behind an artifact, with their texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dolly_assets.conversations.tables import prompt_and_answer_texts
from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.markdown import markdown_table
from dolly_assets.core.text import count, one_line
from dolly_assets.datasets.quality.finding import EXCERPT_CHARACTERS, excerpt
from dolly_assets.registry.attributes import CheckpointAttributes
from dolly_assets.registry.kinds import MODEL_CHECKPOINT, RAW_DATASET, RECORD_LOSSES_FILE
from dolly_assets.registry.lineage import Lineage
from dolly_assets.scoring.record_losses import (
    RECORD_LOSSES_SCHEMA,
    RecordLosses,
    Standout,
)
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.conventions import TABLE_FILE
from dolly_assets.storage.large_tables import select_rows

SHOWN = 10
"""Records of each list that tables show; JSON has all."""
HEADER = ("record", "why", "loss by epoch", "found", "category", "text")


@dataclass(frozen=True)
class StandingOut:
    """The records that stand out, by the reason why.

    Attributes:
        losses: The losses of all records.
        lists: The records of each list, those that stand out most first.
        texts: The category and an excerpt of each of these records, as far as the store has them.
    """

    losses: RecordLosses
    lists: dict[str, list[Standout]]
    texts: dict[int, tuple[str, str]]

    @property
    def summary(self) -> str:
        """How many records of how many are in each list."""
        epochs = self.losses.epochs
        found = ", ".join(f"{len(found):,} {LISTS[name]}" for name, found in self.lists.items())
        return (
            f"{count(len(self.losses.records), 'record')} trained on in "
            f"{count(len(epochs), 'epoch')}: {found}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return all records of all lists."""
        return {
            "epochs": list(self.losses.epochs),
            "records": len(self.losses.records),
            **{
                name.replace(" ", "_"): [
                    {
                        "record": each.record,
                        "losses": list(each.losses),
                        "found": each.sentence,
                        "category": self.texts.get(each.record, ("", ""))[0],
                        "text": self.texts.get(each.record, ("", ""))[1],
                    }
                    for each in found
                ]
                for name, found in self.lists.items()
            },
        }

    def markdown(self) -> str | None:
        """Return the first records of every list as a table; None if none stands out."""
        rows = [*self._rows()]
        return markdown_table(HEADER, rows) if rows else None

    def text(self) -> str:
        """Return the first records of every list as lines."""
        lines = [self.summary]
        for record, reason, losses, found, category, text in self._rows():
            lines += [f"record {record}  {reason}: {found}", f"  loss by epoch: {losses}"]
            lines += [f"  {f'[{category}] ' if category else ''}{text}"] if text else []
        return "\n".join(lines)

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for name, found in self.lists.items():
            for each in found[:SHOWN]:
                losses = " → ".join("–" if loss is None else f"{loss:.3f}" for loss in each.losses)
                shown = self.texts.get(each.record, ("", ""))
                yield str(each.record), name, losses, each.sentence, *shown


LISTS = {
    "never better": "never got better",
    "jump": "jumped up between epochs",
    "spike": "in a loss spike",
}


def has_losses(lineage: Lineage) -> bool:
    """Return whether any epoch that made an artifact has the losses of its records."""
    return any(_with_losses(lineage))


def losses_behind(lineage: Lineage) -> RecordLosses:
    """Return the losses of all records over the epochs that made an artifact.

    Raises:
        ArtifactError: None of its epochs has them, or a table is damaged.
    """
    epochs: dict[int, Artifact] = {}
    for each in _with_losses(lineage):
        epochs.setdefault(CheckpointAttributes.of(each).epoch, each)
    if not epochs:
        raise ArtifactError(
            f"{lineage.artifact.name}: no epoch that it was made from has the losses of its "
            "records: an earlier version trained them, or it is the base model; train again with "
            "retrain to record them"
        )
    return RecordLosses.of({epoch: _table_of(each) for epoch, each in epochs.items()})


def standing_out(lineage: Lineage) -> StandingOut:
    """Return the records that stand out over the epochs that made an artifact.

    Raises:
        ArtifactError: None of its epochs has the losses of its records, or a table is damaged.
    """
    losses = losses_behind(lineage)
    lists = {
        "never better": losses.never_better(),
        "jump": losses.jumps(),
        "spike": losses.in_loss_spikes(),
    }
    wanted = sorted({each.record for found in lists.values() for each in found})
    return StandingOut(losses, lists, _texts(lineage.of_kind(RAW_DATASET), wanted))


def _with_losses(lineage: Lineage) -> Iterator[Artifact]:
    for each in lineage.ancestors:
        if each.manifest.kind == MODEL_CHECKPOINT.name and each.holds(RECORD_LOSSES_FILE):
            yield each


def _table_of(checkpoint: Artifact) -> pa.Table:
    table = checkpoint.read_table(RECORD_LOSSES_FILE)
    try:
        return table.select(RECORD_LOSSES_SCHEMA.names).cast(RECORD_LOSSES_SCHEMA)
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise ArtifactError(
            f"{checkpoint.name}: {RECORD_LOSSES_FILE} is no table of losses: {one_line(error)}"
        ) from error


def _texts(raw_dataset: Artifact | None, records: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Return category and excerpt of records; none if the store no longer has the dataset."""
    if raw_dataset is None or not records or not raw_dataset.is_complete():
        return {}
    table = raw_dataset.read_table(TABLE_FILE)
    there = [record for record in records if 0 <= record < table.num_rows]
    taken = select_rows(table, np.array(there, np.int64))
    categories = taken["category"].to_pylist()
    excerpts = [
        " → ".join(excerpt(text, end=EXCERPT_CHARACTERS) for text in texts)
        for texts in prompt_and_answer_texts(taken)
    ]
    return dict(zip(there, zip(categories, excerpts, strict=True), strict=True))
