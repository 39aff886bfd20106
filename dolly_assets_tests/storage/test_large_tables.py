"""Tables beyond the limit of memory lie in a file without a name; they read like any other."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dolly_assets.storage.large_tables import MEMORY_BYTES, TableWriter, empty_array, select_rows

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.string())])
BATCH = 1000


def batches(size_bytes: int) -> Iterator[pa.RecordBatch]:
    """Batches of a table of about a size, with a number for every row."""
    for first in range(0, size_bytes // 1024, BATCH):
        numbers = np.arange(first, first + BATCH)
        texts = pa.array([f"{number} ".ljust(1024, "x") for number in numbers])
        yield pa.RecordBatch.from_arrays([pa.array(numbers), texts], schema=SCHEMA)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def written(size_bytes: int) -> pa.Table:
    writer = TableWriter(SCHEMA)
    for batch in batches(size_bytes):
        writer.write(batch)
    return writer.table()


def test_a_small_table_is_in_memory_as_one_chunk(temporary: Path) -> None:
    table = written(3 * 2**20)
    assert table.equals(pa.Table.from_batches(batches(3 * 2**20)))
    assert table["text"].num_chunks == 1
    assert TableWriter(SCHEMA).table().equals(SCHEMA.empty_table())


def test_a_large_table_is_mapped_from_a_file_that_has_no_name(temporary: Path) -> None:
    allocated = pa.total_allocated_bytes()
    table = written(2 * MEMORY_BYTES)
    assert pa.total_allocated_bytes() - allocated < MEMORY_BYTES / 8
    assert not [*temporary.iterdir()]
    assert table.equals(pa.Table.from_batches(batches(2 * MEMORY_BYTES)))


def test_a_writer_that_is_given_up_leaves_no_file(temporary: Path) -> None:
    writer = TableWriter(SCHEMA)
    for batch in batches(2 * MEMORY_BYTES):
        writer.write(batch)
    assert [*temporary.iterdir()]
    del writer
    assert not [*temporary.iterdir()]


def test_a_large_array_is_mapped(temporary: Path) -> None:
    array = empty_array((3, MEMORY_BYTES // 8), np.uint64)
    assert isinstance(array, np.memmap)
    assert not [*temporary.iterdir()]
    assert not array[1, -3:].any()
    array[2, -1] = 7
    assert array[2, -1] == 7
    assert not isinstance(empty_array((3, 4), np.uint64), np.memmap)


@pytest.mark.parametrize("places", [[], [5], [999, 0, 500, 500, 3], [*range(1000)]])
def test_rows_are_selected_like_take_does(places: list[int]) -> None:
    whole = pa.table({"a": range(1000), "b": [[number] * (number % 5) for number in range(1000)]})
    chunked = pa.concat_tables([whole.slice(at, 7) for at in range(0, 1000, 7)])
    selected = select_rows(chunked, np.array(places, np.int64))
    assert selected.equals(whole.take(pa.array(places, pa.int64())))
    assert selected["b"].num_chunks == 1 or not places


FILL = """
import pyarrow as pa
from dolly_assets.storage.large_tables import TableWriter
batch = pa.record_batch({"text": ["x" * 1000] * 10_000})
writer = TableWriter(batch.schema)
for _ in range(20):
    writer.write(batch)
writer.table()
"""


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"),
    reason="needs a disk of its own, which only root can mount",
)
@pytest.mark.slow
def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    script = f"""
mount -t tmpfs -o size=100m none {tmp_path} || exit 77
TMPDIR={tmp_path} {sys.executable} -c '{FILL}'
"""
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    if ended.returncode in (77, 1) and "DatasetError" not in ended.stderr:
        pytest.skip(f"nothing can be mounted here: {ended.stderr[-200:]}")
    said = ended.stderr.splitlines()[-1]
    assert said.startswith("dolly_assets.core.errors.DatasetError: ")
    assert f"{tmp_path}: no space left for a dataset that is larger than memory" in said
    assert "set TMPDIR" in said
