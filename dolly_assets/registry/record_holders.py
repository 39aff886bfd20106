"""Which datasets in the store hold a record verbatim, and on which side of their splits.

A record is known by its texts: under another number, in another dataset or in another version it
is the same. Knows datasets; what was trained on them is the business of `exposure.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.conversations import Conversation
from dolly_assets.conversations.tables import (
    conversations,
    holds_conversations,
    holds_preferences,
)
from dolly_assets.core.errors import ArtifactError, DatasetError, some_of
from dolly_assets.core.text import one_line
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.inputs import input_digest
from dolly_assets.registry.kinds import RAW_DATASET, TOKENIZED_DATASET
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.conventions import TABLE_FILE
from dolly_assets.tokenization.tokenized_dataset import HELD_OUT_FILE, TRAIN_FILE

Side = Literal["raw", "train", "held out", "left out"]
_ID = "id:"


@dataclass(frozen=True)
class Holder:
    """A publication of a dataset, and where in it the record is.

    Attributes:
        artifact: The raw or tokenized dataset.
        side: `raw`; or the side of the split. What is left out was too long or refused.
        records: The record's numbers in the raw dataset.
        rows: The rows that hold it, on the side `train`.
        all_rows: How many rows this side has.
    """

    artifact: Artifact
    side: Side
    records: tuple[int, ...]
    rows: tuple[int, ...] = ()
    all_rows: int = 0

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return ArtifactAddress.parse(self.artifact.name).dataset

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "name": self.artifact.name,
            "digest": self.artifact.digest,
            "side": self.side,
            "records": list(self.records),
        }


def find_record(
    artifacts: Iterable[Artifact], name: str, digest: str | None = None
) -> tuple[Artifact, int, Conversation]:
    """Return a raw dataset, the number of the record that a name stands for, and the record.

    Args:
        artifacts: All publications of the store.
        name: `DATASET/N` or `DATASET/id:ID`; the dataset may be left out if there is one alone.
        digest: The publication that the number is of, or the beginning of its digest.

    Raises:
        DatasetError: There is no such record, or it is not clear which one is meant.
    """
    dataset, _, record = name.rpartition("/")
    if not record.startswith(_ID) and not (record.isascii() and record.isdecimal()):
        raise DatasetError(
            f"{name!r}: expected DATASET/N with the number of a record, counted from 0 as in dolly "
            "lineage, or DATASET/id:ID, such as demo/4711"
        )
    found: dict[tuple[str, str], tuple[Artifact, int, Conversation]] = {}
    for raw in _versions(artifacts, dataset, digest):
        for place in _places_of_name(raw, record):
            said = next(conversations(_table(raw, TABLE_FILE).slice(place, 1)))
            found.setdefault((said.messages_json(), said.tools_json()), (raw, place, said))
    if not found:
        raise DatasetError(
            f"{name!r}: no publication of the raw dataset has such a record; see: dolly datasets "
            "show NAME"
        )
    if len(found) > 1:
        several = [
            f"{ArtifactAddress.parse(raw.name).dataset}/{place} --digest {raw.digest[:12]}"
            for raw, place, _ in found.values()
        ]
        raise DatasetError(f"{name!r} is several records: name one, as {some_of(several)}")
    return next(iter(found.values()))


def holders_of(artifacts: Iterable[Artifact], conversation: Conversation) -> list[Holder]:
    """Return every publication of a raw or tokenized dataset that holds a record.

    Raises:
        ArtifactError: A dataset cannot be read, so that it is not known what it holds.
    """
    artifacts = [*artifacts]
    raw = _contents(artifacts, RAW_DATASET.name)
    held = {
        each.digest: Holder(each, "raw", places)
        for each in raw
        if (places := _places_of(_table(each, TABLE_FILE), conversation))
    }
    tokenized = _contents(artifacts, TOKENIZED_DATASET.name)
    split = [
        _side_of(each, held[digest].records)
        for each in tokenized
        if (digest := input_digest(each, RAW_DATASET)) in held
    ]
    return [*held.values(), *split]


def _contents(artifacts: Iterable[Artifact], kind: str) -> list[Artifact]:
    """Return the artifacts of a kind, each content of a name once."""
    found = {(each.name, each.digest): each for each in artifacts if each.manifest.kind == kind}
    return [*found.values()]


def _versions(artifacts: Iterable[Artifact], dataset: str, digest: str | None) -> list[Artifact]:
    """Return the contents of one raw dataset."""
    raw = _contents(artifacts, RAW_DATASET.name)
    names = sorted({ArtifactAddress.parse(each.name).dataset for each in raw})
    if not dataset and len(names) > 1:
        raise DatasetError(f"a record of which dataset: {some_of(names)}? Name it as DATASET/N")
    if dataset and dataset not in names:
        raise DatasetError(
            f"no raw dataset {dataset!r} is in the store; it has {some_of(names) or 'none'}"
        )
    of_name = [each for each in raw if not dataset or each.name.rpartition("/")[2] == dataset]
    found = [each for each in of_name if each.digest.startswith(digest or "")]
    if not found and digest:
        raise DatasetError(
            f"raw dataset {dataset or names[0]} has no digest {digest}…; it has "
            f"{some_of([each.digest[:12] for each in of_name])}"
        )
    return found


def _places_of_name(raw: Artifact, record: str) -> list[int]:
    """Return the numbers of the records of that number or id."""
    table = _table(raw, TABLE_FILE)
    if not record.startswith(_ID):
        return [int(record)] if int(record) < table.num_rows else []
    if "id" not in table.column_names:
        return []
    is_named = np.array(table["id"].to_pylist(), object) == record.removeprefix(_ID)
    return np.flatnonzero(is_named).tolist()


def _places_of(table: pa.Table, conversation: Conversation) -> tuple[int, ...]:
    """Return the numbers of the records that say the same, whatever their category."""
    if holds_preferences(table):
        return ()
    if holds_conversations(table):
        texts = {"messages": conversation.messages_json(), "tools": conversation.tools_json()}
    else:
        asked, *answer = conversation.messages
        response = answer[0].content if answer else ""
        again = Conversation.of_exchange(asked.content, asked.context, response)
        if (again.messages, ()) != (conversation.messages, conversation.tools):
            return ()
        texts = {
            "instruction": asked.content,
            "context": asked.context,
            "response": response,
        }
    is_same = np.ones(table.num_rows, bool)
    for name, text in texts.items():
        is_same &= pc.equal(table[name], text).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    return tuple(np.flatnonzero(is_same).tolist())


def _side_of(tokenized: Artifact, records: tuple[int, ...]) -> Holder:
    train = _table(tokenized, TRAIN_FILE).select(["record", "row"])
    is_there = np.isin(train["record"].to_numpy(), records)
    if is_there.any():
        rows = train["row"].to_numpy()
        used = tuple(np.unique(rows[is_there]).tolist())
        return Holder(tokenized, "train", records, used, int(rows.max()) + 1)
    held_out = _table(tokenized, HELD_OUT_FILE)["record"].to_numpy()
    side: Side = "held out" if np.isin(held_out, records).any() else "left out"
    return Holder(tokenized, side, records)


def _table(artifact: Artifact, file: str) -> pa.Table:
    """Return a table of a dataset.

    Raises:
        ArtifactError: It cannot be read; nothing can be stated of a record then.
    """
    try:
        return artifact.read_table(file)
    except ArtifactError as error:
        raise ArtifactError(
            f"{artifact.name} of {artifact.manifest.created_at:%Y-%m-%d %H:%M} cannot be read, so "
            f"it is not known whether it holds the record: {one_line(error)}; see: dolly verify"
        ) from error
