"""Records that stand out, with their texts: a training is laid out in a store by hand."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolly_assets.core.errors import ArtifactError
from dolly_assets.registry.kinds import RECORD_LOSSES_FILE
from dolly_assets.registry.lineage import Lineage
from dolly_assets.registry.record_losses import standing_out
from dolly_assets.scoring.record_losses import RECORD_LOSSES_SCHEMA
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.conventions import TABLE_FILE

RECORDS, MISLABELLED = 40, 7


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")


def published(
    store: ArtifactStore, name: str, kind: str, table: pa.Table, *inputs: Artifact, epoch: int = 0
) -> Artifact:
    file = TABLE_FILE if kind == "raw_dataset" else RECORD_LOSSES_FILE
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, Path(folder) / file)
        return store.publish(
            name,
            Path(folder),
            kind=kind,
            inputs={each.name: each.digest for each in inputs},
            attributes={"epoch": epoch},
        )


def raw_dataset(store: ArtifactStore) -> Artifact:
    rows = [
        {
            "instruction": f"Question {number} <b>",
            "context": "",
            "response": f"Answer {number}",
            "category": "maths",
        }
        for number in range(RECORDS)
    ]
    return published(store, "raw_dataset/d", "raw_dataset", pa.Table.from_pylist(rows))


def losses(epoch: int) -> pa.Table:
    values = np.full(RECORDS, 5.0 - 2 * epoch)
    values[MISLABELLED] = 4.0
    columns = [np.arange(RECORDS), np.arange(RECORDS) + RECORDS * epoch, [1] * RECORDS, values]
    return pa.table(columns, names=RECORD_LOSSES_SCHEMA.names).cast(RECORD_LOSSES_SCHEMA)


def trained(store: ArtifactStore, second: pa.Table, *made_from: Artifact) -> Lineage:
    name, kind = "f/model_checkpoint/d/0", "model_checkpoint"
    first = published(store, f"{name}1", kind, losses(1), *made_from, epoch=1)
    return Lineage(store, published(store, f"{name}2", kind, second, first, epoch=2))


def test_a_mislabelled_record_is_shown_with_its_losses_category_and_text(
    store: ArtifactStore,
) -> None:
    found = standing_out(trained(store, losses(2), raw_dataset(store)))
    assert found.summary == (
        f"{RECORDS} records trained on in 2 epochs: 1 never got better, 0 jumped up between "
        "epochs, 0 in a loss spike"
    )
    [row] = found.as_json()["never_better"]
    assert (row["record"], row["losses"], row["category"]) == (MISLABELLED, [4.0, 4.0], "maths")
    assert row["text"].startswith(f"Question {MISLABELLED} <b>")
    assert row["text"].endswith(f"→ Answer {MISLABELLED}")
    assert "4.000 → 4.000" in found.text()
    markdown = found.markdown()
    assert markdown
    assert f"`Question {MISLABELLED} <b>" in markdown, "texts of records are shown as text"


def test_without_the_raw_dataset_records_have_no_text(store: ArtifactStore) -> None:
    [row] = standing_out(trained(store, losses(2))).as_json()["never_better"]
    assert (row["record"], row["text"]) == (MISLABELLED, "")


def test_a_table_that_is_none_of_losses_is_an_error_that_names_it(store: ArtifactStore) -> None:
    lineage = trained(store, losses(2).drop_columns(["step"]))
    with pytest.raises(ArtifactError, match=r"02: record_losses.parquet is no table"):
        standing_out(lineage)
