"""Parquet and Arrow files: what they hold is read, and what they only claim to hold is not."""

import re
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.formats import read_file

ROWS = [{"instruction": "a", "response": "1", "n": 1}, {"instruction": "é", "response": "2"}]
EXPECTED = [
    {"instruction": "a", "context": "", "response": "1", "category": ""},
    {"instruction": "é", "context": "", "response": "2", "category": ""},
]
HIDDEN_BYTES = 3 * 2**20
PEAK = """
import pathlib, re, sys
from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.formats import read_file
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
before = peak()
try:
    read_file(pathlib.Path(sys.argv[1]), source="bomb")
except DatasetError as error:
    print(error)
print((peak() - before) * 1024)
"""


def write_arrow(
    path: Path, table: pa.Table, *, stream: bool, compression: str | None = None, rows: int = 1
) -> Path:
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with new(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=1000 if compression else rows)
    return path


@pytest.mark.parametrize(
    ("stream", "compression"), [(True, None), (False, None), (True, "zstd"), (False, "lz4")]
)
@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
)
def test_arrow_files_of_either_kind_are_read_whatever_encodes_their_strings(
    tmp_path: Path, stream: bool, compression: str | None, kind: pa.DataType
) -> None:
    table = pa.Table.from_pylist(ROWS)
    for name in ("instruction", "response"):
        column = table[name].combine_chunks()
        column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
        table = table.set_column(table.schema.get_field_index(name), name, column)

    path = write_arrow(tmp_path / "a.arrow", table, stream=stream, compression=compression)
    read = read_file(path, source="a")

    assert read.table.to_pylist() == EXPECTED
    assert read.dropped_columns == ("n",)


def not_utf8(values: list[bytes]) -> pa.Array:
    return pa.array(values, pa.binary()).view(pa.string())


@pytest.mark.parametrize("name", ["a.parquet", "stream.arrow", "file.arrow"])
@pytest.mark.parametrize("encoded", [False, True])
def test_text_that_is_not_utf8_is_refused_with_its_record(
    tmp_path: Path, name: str, encoded: bool
) -> None:
    column = not_utf8([b"good", b"caf\xe9", b"good"])
    if encoded:
        column = pa.DictionaryArray.from_arrays(
            pa.array([0, 1, 0]), not_utf8([b"good", b"caf\xe9"])
        )
    table = pa.table({"instruction": column, "response": ["1", "2", "3"]})
    if name.endswith(".parquet"):
        pq.write_table(table, tmp_path / name)
    else:
        write_arrow(tmp_path / name, table, stream=name.startswith("stream"))

    with pytest.raises(
        DatasetError, match=r"a: record 2: the column 'instruction' is not UTF-8 \(0xe9, "
    ):
        read_file(tmp_path / name, source="a")


def test_columns_that_hold_no_text_are_refused_before_they_are_read(tmp_path: Path) -> None:
    table = pa.table({"instruction": [["a"]], "response": ["b"]})
    pq.write_table(table, tmp_path / "a.parquet")
    write_arrow(tmp_path / "a.arrow", table, stream=True)

    for name in ("a.parquet", "a.arrow"):
        with pytest.raises(DatasetError, match=r"'instruction' holds values of type list<"):
            read_file(tmp_path / name, source="a")


@pytest.mark.parametrize("stream", [True, False])
def test_damaged_arrow_is_refused(tmp_path: Path, stream: bool) -> None:
    table = pa.Table.from_pylist(ROWS).select(["instruction", "response"])
    content = write_arrow(tmp_path / "whole.arrow", table, stream=stream).read_bytes()
    damaged = tmp_path / "a.arrow"

    boundary = content.rindex(b"\xff" * 4)  # where the stream's end, or a file's index, begins
    for end in (*range(1, len(content), 37), boundary):
        damaged.write_bytes(content[:end])
        with pytest.raises(DatasetError, match="a: "):
            read_file(damaged, source="a")
    for place in range(0, len(content), 11):
        damaged.write_bytes(content[:place] + b"\xff" * 4 + content[place + 4 :])
        with suppress(DatasetError):  # what is damaged may not matter
            read_file(damaged, source="a")


def test_an_arrow_dictionary_index_out_of_its_bounds_is_refused(tmp_path: Path) -> None:
    indices = pa.array([0, 77_777_777], pa.int32())
    for values in (pa.array(["a"]), not_utf8([b"\xff"])):
        column = pa.DictionaryArray.from_arrays(indices, values, safe=False)
        table = pa.table({"instruction": column, "response": ["1", "2"]})
        path = write_arrow(tmp_path / "a.arrow", table, stream=True)

        with pytest.raises(DatasetError, match="not a readable Arrow file"):
            read_file(path, source="a")


def test_arrow_text_beyond_the_bounds_of_its_bytes_is_refused(tmp_path: Path) -> None:
    table = pa.table({"instruction": ["ab", "c"], "response": ["de", "f"]})
    path = write_arrow(tmp_path / "a.arrow", table, stream=True, compression=None, rows=2)
    offsets = struct.pack("<3i", 0, 2, 3)
    assert path.read_bytes().count(offsets) == 2
    path.write_bytes(path.read_bytes().replace(offsets, struct.pack("<3i", 0, 2**30, 3), 1))

    with pytest.raises(DatasetError, match="not a readable Arrow file"):
        read_file(path, source="a")


def bomb(path: Path, encoding: str) -> Path:
    """Write a small file of many rows of 3 MiB each: equal, or equal but for their end."""
    text = "x" * HIDDEN_BYTES
    if encoding == "dictionary":
        column = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), pa.array([text]))
        table = pa.table({"instruction": column, "response": column})
        pq.write_table(table, path, compression="zstd")
    elif encoding.startswith("compressed"):
        text_column = pa.array([text] * 64)
        values = pa.DictionaryArray.from_arrays(pa.array([0]), text_column)
        column = values if encoding.endswith("dictionary") else text_column
        table = pa.table({"instruction": column, "response": column})
        write_arrow(path, table, stream=True, compression="zstd")
    elif encoding == "arrow":
        column = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), pa.array([text]))
        table = pa.table({"instruction": column, "response": column})
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
    else:
        table = pa.table({"instruction": [f"{text}{n}" for n in range(24)], "response": ["b"] * 24})
        pq.write_table(
            table,
            path,
            compression="zstd",
            use_dictionary=False,
            column_encoding={"instruction": encoding, "response": "PLAIN"},
        )
    return path


@pytest.mark.parametrize(
    "encoding",
    [
        "dictionary",
        "compressed arrow",
        pytest.param("DELTA_BYTE_ARRAY", marks=pytest.mark.long),
        pytest.param("PLAIN", marks=pytest.mark.long),
        pytest.param("arrow", marks=pytest.mark.long),
        pytest.param("compressed arrow dictionary", marks=pytest.mark.long),
    ],
)
@pytest.mark.slow  # measured in a process of its own
def test_a_value_that_is_stored_once_and_meant_often_is_refused_in_little_memory(
    tmp_path: Path, encoding: str
) -> None:
    path = bomb(tmp_path / ("a.arrow" if "arrow" in encoding else "a.parquet"), encoding)

    process = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True
    )

    problem, peak_bytes = process.stdout.splitlines()
    assert re.match(r"bomb: its [\d,]+ bytes expand to more than ", problem)
    assert int(peak_bytes) < 200 * 2**20
