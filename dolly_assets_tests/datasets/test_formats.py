"""Every file here is real and on disk; nothing stands in for anything."""

import bz2
import gzip
import json
import re
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.compression import HARMLESS_BYTES
from dolly_assets.datasets.formats import MAX_LINE_BYTES, read_file

RECORDS = [
    {"instruction": "Add.", "context": "1, 2", "response": "3", "category": "sum"},
    {"instruction": 'Say "hé".', "context": "", "response": "hé\n日本", "category": ""},
]
JSONL = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
CSV = 'instruction,context,response,category\nAdd.,"1, 2",3,sum\n"Say ""hé"".",,"hé\n日本",\n'
TSV = CSV.replace('"1, 2"', "1, 2").replace(",", "\t").replace("1\t 2", "1, 2")
TEXTS = {
    "a.json": json.dumps(RECORDS, indent=2, ensure_ascii=False),
    "a.jsonl": JSONL,
    "a.csv": CSV,
    "a.tsv": TSV,
}


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


@pytest.fixture
def read(tmp_path):
    def read_content(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_file(path, source=name)

    return read_content


def assert_refused(read, name, content, *parts) -> None:
    with pytest.raises(DatasetError, match=re.escape(name)) as caught:
        read(name, content)
    for part in parts:
        assert part in str(caught.value)


PACKED = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstd}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_text_formats_are_read_compressed_or_not_and_with_a_byte_order_mark(
    read, name, suffix, bom
) -> None:
    content = bom + TEXTS[name].encode()

    assert read(name + suffix, PACKED[suffix](content)).table.to_pylist() == RECORDS


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
def test_several_compressed_members_are_one_text(read, suffix) -> None:
    content = PACKED[suffix](JSONL.encode())

    assert read(f"a.jsonl{suffix}", content * 2).table.to_pylist() == RECORDS * 2


@pytest.mark.parametrize(("suffix", "format_name"), [(".bz2", "bzip2"), (".zst", "zstd")])
def test_damaged_compressed_files_are_refused(read, suffix, format_name) -> None:
    whole = PACKED[suffix](JSONL.encode())

    for content in (JSONL.encode(), whole[:-5], whole + b"more"):
        if suffix == ".bz2" and content == whole + b"more":
            continue  # which bzip2 ignores
        assert_refused(read, f"a.jsonl{suffix}", content, f"not a complete {format_name} file")


def test_parquet_is_read(tmp_path) -> None:
    pq.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "a.parquet")

    assert read_file(tmp_path / "a.parquet", source="a").table.to_pylist() == RECORDS


def test_suffixes_are_read_in_any_case_and_windows_line_ends_in_csv_and_jsonl(read) -> None:
    assert read("A.JSONL", JSONL.replace("\n", "\r\n")).table.num_rows == 2
    assert read("A.Csv", CSV.replace("\n", "\r\n")).table.num_rows == 2


def test_blank_lines_between_records_are_skipped(read) -> None:
    assert read("a.jsonl", JSONL.replace("\n", "\n\n")).table.to_pylist() == RECORDS
    assert read("a.csv", "instruction,response\n\na,b\n\n").table.num_rows == 1


@pytest.mark.parametrize("name", ["a.txt", "a", "a.parquet.gz", "jsonl"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(read, name) -> None:
    assert_refused(read, name, JSONL, "unknown file type", ".jsonl", ".csv.gz")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.parquet", "a.jsonl.gz"])
def test_an_empty_file_is_refused(read, name) -> None:
    assert_refused(read, name, b"", "the file is empty")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "[]"),
        ("a.jsonl", "\n\n"),
        ("a.csv", "instruction,response\n"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0)),
    ],
)
def test_a_file_without_records_is_refused(read, name, content) -> None:
    assert_refused(read, name, content, "there are no records")


def test_broken_jsonl_is_refused_with_line_and_column(read) -> None:
    broken = '{"instruction": "a", "response": "b"}\n\n{"instruction": "a" "response": "b"}\n'

    assert_refused(read, "a.jsonl", broken, "line 3, column 21", "broken JSON")


def test_broken_json_is_refused_with_line_and_column(read) -> None:
    assert_refused(read, "a.json", '[\n  {"instruction": }\n]', "line 2, column 19", "broken JSON")


def test_jsonl_named_json_is_told_its_right_name(read) -> None:
    assert_refused(read, "a.json", JSONL, "line 2, column 1", "name it .jsonl")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.json", '{"data": []}', "expected a JSON array of objects, found an object"),
        (
            "a.json",
            '[{"instruction": "a", "response": "b"}, 3]',
            "record 2: expected a JSON object, found a number",
        ),
        (
            "a.jsonl",
            '{"instruction": "a", "response": "b"}\n["a"]\n',
            "line 2: expected a JSON object, found an array",
        ),
        ("a.jsonl", "null\n", "line 1: expected a JSON object, found null"),
    ],
)
def test_json_that_is_no_list_of_objects_is_refused(read, name, content, found) -> None:
    assert_refused(read, name, content, found)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_key_twice_in_an_object_is_refused(read, name) -> None:
    record = '{"instruction": "a", "response": "b", "response": "c"}'

    assert_refused(read, name, f"[{record}]" if name == "a.json" else record, "'response' twice")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("content", ["[" * 200_000, "[" + "9" * 5000 + "]"])
def test_json_beyond_the_parsers_limits_is_refused(read, name, content) -> None:
    assert_refused(read, name, content, "broken JSON")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json"])
def test_other_encodings_are_refused_with_byte_and_line(read, name) -> None:
    content = TEXTS[name].encode("latin-1", errors="replace")
    offset = content.index(b"\xe9")
    line = content.count(b"\n", 0, offset) + 1

    assert_refused(read, name, TEXTS[name].encode("utf-16"), "line 1: byte 0", "UTF-8")
    assert_refused(read, name, content, f"line {line}: byte {offset}", "UTF-8")


def test_bytes_are_counted_from_the_start_of_the_file_whatever_precedes(read) -> None:
    content = b"\xef\xbb\xbf" + JSONL.encode() + b'{"instruction": "\xff'

    assert_refused(read, "a.jsonl", content, f"line 3: byte {len(content) - 1} ")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
@pytest.mark.slow
def test_an_endless_line_is_refused_by_its_number_without_being_read_whole(read, name) -> None:
    first = (
        b'{"instruction": "a", "response": "b"}\n' if "jsonl" in name else b"instruction,response\n"
    )
    content = gzip.compress(first + b"x" * (200 * 2**20), compresslevel=1)

    tracemalloc.start()
    try:
        assert_refused(read, name, content, f"line 2 is longer than {MAX_LINE_BYTES} bytes")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < 3 * MAX_LINE_BYTES


def test_a_damaged_record_is_named_by_record_and_line(read) -> None:
    jsonl = '{"instruction": "a", "response": "b"}\n\n{"instruction": "a", "response": " "}\n'
    csv_text = 'instruction,response\n"a\nb",c\n\nd,\n'

    assert_refused(read, "a.jsonl", jsonl, "record 2 (line 3): the response is empty")
    assert_refused(read, "a.csv", csv_text, "record 2 (line 5): the response is empty")


@pytest.mark.parametrize(("row", "fields"), [("d", 1), ("d,e,f", 3)])
def test_ragged_csv_is_refused_with_its_line(read, row, fields) -> None:
    content = f'instruction,response\n"a\nb",c\n{row}\n'

    assert_refused(read, "a.csv", content, f"line 4: {fields} fields where the header has 2")


@pytest.mark.parametrize("tail", ['"never closed\n', 'a"b"c",d\n"x"y,z\n'])
def test_csv_with_stray_quotes_is_refused_with_its_line(read, tail) -> None:
    assert_refused(
        read, "a.csv", f"instruction,response\n{tail}", "broken CSV in the record at line"
    )


def test_csv_with_a_repeated_column_is_refused(read) -> None:
    assert_refused(
        read, "a.csv", "instruction,response,response\na,b,c\n", "'response' occurs twice"
    )


def test_a_csv_field_may_be_as_long_as_a_line(read) -> None:
    document = "x" * 500_000

    table = read("a.csv", f"instruction,response\nSummarise.,{document}\n").table

    assert table["response"].to_pylist() == [document]


@pytest.mark.parametrize(
    "content",
    [
        JSONL.encode(),
        gzip.compress(JSONL.encode(), mtime=0)[:-12],
        gzip.compress(JSONL.encode(), mtime=0)[:-8] + bytes(8),
    ],
    ids=["not-gzip", "cut-short", "wrong-checksum"],
)
def test_damaged_gzip_is_refused(read, content) -> None:
    assert_refused(read, "a.jsonl.gz", content, "not a complete gzip file")


def test_damaged_parquet_is_refused(read, tmp_path) -> None:
    pq.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()

    assert_refused(read, "a.parquet", content[:-20], "not a readable Parquet file")
    assert_refused(read, "b.parquet", JSONL, "not a readable Parquet file")
    assert_refused(
        read,
        "c.parquet",
        content[:4] + b"\xff" * 150 + content[154:],
        "not a readable Parquet file",
    )


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.csv.gz", "a.csv.zst"])
@pytest.mark.slow
def test_a_file_that_grows_beyond_measure_is_refused_long_before_it_fills_the_memory(
    read, name
) -> None:
    packed = PACKED[name[name.rindex(".") :]]
    start, row = (
        (b"", b" " * 4095)
        if "json" in name
        else (b"instruction,response\n", b"a,".ljust(4095, b"b"))
    )
    bomb = packed(start + (row + b"\n") * (2 * HARMLESS_BYTES // 4096))
    tracemalloc.start()

    assert_refused(
        read, name, bomb, f"its {len(bomb):,} bytes expand to more than {HARMLESS_BYTES:,}"
    )

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 3 * HARMLESS_BYTES


def test_a_parquet_file_of_one_value_many_times_over_is_refused(tmp_path) -> None:
    one, count = "x" * 100_000, 20_000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([one]))
    pq.write_table(pa.table({"instruction": column, "response": column}), tmp_path / "a.parquet")

    with pytest.raises(
        DatasetError, match=rf"a: its [\d,]+ bytes expand to more than {HARMLESS_BYTES:,}"
    ):
        read_file(tmp_path / "a.parquet", source="a")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv.gz", "a.parquet", "a.arrow"])
def test_a_git_lfs_pointer_is_named_as_one(read, name) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1234567\n"

    assert_refused(read, name, pointer, "a Git LFS pointer instead of the file's 1,234,567 bytes")
    assert_refused(read, name, pointer, "run `git lfs pull`")


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ('"k\\ud83d": 1', r"the key 'k\ud83d' has half of a surrogate pair"),
        ('"k": "\\uDE00"', "the value of 'k' has half of a surrogate pair"),
        ('"k": [{"in": ["\\ud83d"]}]', "the value of 'in' has half of a surrogate pair"),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_half_a_surrogate_pair_is_refused_in_any_key_and_value(read, name, entry, found) -> None:
    good, bad = '{"instruction": "a", "response": "b"}', f'{{"instruction": "a", {entry}}}'
    content = f"[{good}, {bad}]" if name == "a.json" else f"{good}\n{bad}\n"

    assert_refused(read, name, content, "record 2" if name == "a.json" else "line 2", found)


def test_whole_surrogate_pairs_are_text(read) -> None:
    table = read("a.jsonl", '{"instruction": "\\ud83d\\ude00", "response": "b"}').table

    assert table["instruction"].to_pylist() == ["\U0001f600"]


def test_blank_lines_before_the_header_are_skipped_and_counted(read) -> None:
    assert read("a.csv", "\n\ninstruction,response\na,b\n").table.num_rows == 1
    assert_refused(read, "a.csv", "\n\ninstruction,response\na,\n", "record 1 (line 4)")
    assert_refused(read, "a.csv", "\na,a\n", "line 2: the column name 'a' occurs twice")


COLUMNS = [f"column{number}" for number in range(200_000)]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv", ",".join(COLUMNS), "there are no records"),
        ("a.csv", ",".join([*COLUMNS, "last", "last"]), "the column name 'last' occurs twice"),
        ("a.csv", ",".join(COLUMNS) + "\n" + "," * (len(COLUMNS) - 1), "and 199,980 more"),
        (
            "a.json",
            f'[{{{", ".join(f"{json.dumps(key)}: 1" for key in COLUMNS)}, "k": 1, "k": 2}}]',
            "an object has the key 'k' twice",
        ),
    ],
    ids=["csv", "csv-repeated", "csv-wrong", "json-repeated"],
)
def test_checks_of_names_take_time_in_proportion_to_their_number(
    read, name, content, found
) -> None:
    """Checks of each name against all others would take minutes."""
    assert_refused(read, name, content, found)
