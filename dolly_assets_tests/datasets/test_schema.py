import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolly_assets.conversations.tables import EXCHANGE_SCHEMA
from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.schema import (
    Record,
    canonical_from_records,
    canonical_from_table,
    content_digest,
)

ALPACA = {"instruction": "Add.", "input": "1 and 2", "output": "3", "text": "Below is …"}
DOLLY = {"instruction": "Add.", "context": "1 and 2", "response": "3", "category": "closed_qa"}


def canonical(*records):
    return canonical_from_records(map(Record, records), source="s")


@pytest.mark.parametrize(
    "record", [ALPACA, DOLLY, {"question": "Add.", "context": "1 and 2", "answer": "3"}]
)
def test_known_column_names_map_onto_the_canonical_ones(record) -> None:
    table = canonical(record).table

    assert table.schema.equals(EXCHANGE_SCHEMA)
    row = table.to_pylist()[0]
    assert (row["instruction"], row["context"], row["response"]) == ("Add.", "1 and 2", "3")


def test_dropped_columns_are_listed_even_if_only_a_later_record_has_them() -> None:
    records = [
        {"instruction": "a", "response": "b"},
        {"instruction": "a", "response": "b", "source": "web"},
    ]

    assert canonical(*records).dropped_columns == ("source",)
    assert canonical(ALPACA).dropped_columns == ("text",)


def test_missing_or_null_context_and_category_become_empty() -> None:
    table = canonical(
        {"instruction": "a", "response": "b", "context": None},
        {"instruction": "a", "response": "b"},
    )

    assert (
        table.table.select(["context", "category"]).to_pylist()
        == [{"context": "", "category": ""}] * 2
    )


def test_text_is_kept_as_it_is() -> None:
    record = {"instruction": " a ", "context": "\n", "response": "  é\t日本\n", "category": ""}

    assert canonical(record).table.to_pylist() == [record]


def test_wrong_columns_are_refused_with_those_found_and_those_needed() -> None:
    with pytest.raises(DatasetError, match=r"'response'.*found the columns 'instruction', 'label'"):
        canonical({"instruction": "a", "label": "b"})


@pytest.mark.parametrize("names", [("Instruction", "RESPONSE"), (" instruction ", "Response\t")])
def test_names_in_another_case_or_with_spaces_around_are_matched(names) -> None:
    result = canonical(dict(zip(names, ("a", "b"), strict=True)))

    assert result.table.select(["instruction", "response"]).to_pylist() == [
        {"instruction": "a", "response": "b"}
    ]
    assert result.kept_columns == {"instruction": names[0], "response": names[1]}


def test_an_exact_name_comes_before_similar_ones_which_are_dropped() -> None:
    result = canonical({"instruction": "a", "Response": "x", "response": "b", "Output": "y"})

    assert result.table["response"].to_pylist() == ["b"]
    assert result.dropped_columns == ("Response", "Output")


def test_two_similar_names_for_one_column_are_refused() -> None:
    with pytest.raises(DatasetError, match="'Response', 'OUTPUT' could each be the 'response'"):
        canonical({"instruction": "a", "Response": "b", "OUTPUT": "c"})


@pytest.mark.parametrize(
    ("record", "hint"),
    [
        ({"instructions": "a", "response": "b"}, r"did you mean 'instructions'\? Rename it"),
        ({"Prompt": "a", "respones": "b"}, r"did you mean 'respones'\? Rename it"),
    ],
)
def test_names_that_resemble_a_missing_one_are_named(record, hint) -> None:
    with pytest.raises(DatasetError, match=hint):
        canonical(record)


def test_two_candidates_for_one_column_are_refused() -> None:
    with pytest.raises(DatasetError, match="'response', 'output' could each be the 'response'"):
        canonical({"instruction": "a", "response": "b", "output": "c"})


@pytest.mark.parametrize("column", ["instruction", "response"])
@pytest.mark.parametrize(("value", "found"), [("", "empty"), (" \n", "empty"), (None, "missing")])
def test_a_blank_required_value_is_refused_with_its_record_number(column, value, found) -> None:
    with pytest.raises(DatasetError, match=f"record 2: the {column} is {found}"):
        canonical(DOLLY, {**DOLLY, column: value})


def test_a_record_is_named_by_its_line_where_there_are_lines() -> None:
    records = [Record(DOLLY, 1), Record({**DOLLY, "response": ""}, 4)]

    with pytest.raises(DatasetError, match=r"s: record 2 \(line 4\): the response is empty"):
        canonical_from_records(records, source="s")


@pytest.mark.parametrize(
    ("value", "found"), [(3, "int"), (["3"], "list"), (True, "bool"), ({"a": 1}, "dict")]
)
def test_a_value_that_is_no_string_is_refused_with_its_type(value, found) -> None:
    with pytest.raises(DatasetError, match=f"record 1: the response is a value of type {found}"):
        canonical({**DOLLY, "response": value})


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(DatasetError, match="record 1: the context has half of a surrogate pair"):
        canonical({**DOLLY, "context": "\ud83d"})


def test_no_records_are_refused() -> None:
    with pytest.raises(DatasetError, match="there are no records"):
        canonical()
    with pytest.raises(DatasetError, match="there are no records"):
        canonical_from_table(EXCHANGE_SCHEMA.empty_table(), source="s")


def test_tables_map_as_records_do_whatever_their_string_type() -> None:
    table = pa.table(
        {
            "output": pa.array(["3"]).dictionary_encode(),
            "input": pa.array([None], pa.large_string()),
            "instruction": ["Add."],
            "label": [7],
        }
    )

    result = canonical_from_table(table, source="s")

    assert result.dropped_columns == ("label",)
    expected = {"instruction": "Add.", "context": "", "response": "3", "category": ""}
    assert result.table.to_pylist() == [expected]


def test_a_table_with_a_repeated_column_is_refused() -> None:
    table = pa.table([["a"], ["b"], ["c"]], names=["instruction", "response", "response"])

    with pytest.raises(DatasetError, match="'response' occurs twice"):
        canonical_from_table(table, source="s")


def test_digest_is_independent_of_chunks_and_parquet_encoding(tmp_path) -> None:
    table = canonical(*({**DOLLY, "response": str(n)} for n in range(3000))).table
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", row_group_size=7)
    pq.write_table(table, tmp_path / "b.parquet", compression="none", use_dictionary=False)

    digests = {
        content_digest(pq.read_table(tmp_path / name)) for name in ("a.parquet", "b.parquet")
    }

    assert digests == {content_digest(table)}


def test_digest_changes_with_order_with_text_and_with_the_border_between_columns() -> None:
    first, second = DOLLY, {**DOLLY, "response": "4"}
    shifted = {**DOLLY, "instruction": "Add.1", "context": " and 2"}

    digests = {
        content_digest(canonical(*records).table)
        for records in ([first, second], [second, first], [first], [shifted], [first, first])
    }

    assert len(digests) == 5


def test_digest_stays_the_same_over_releases() -> None:
    digest = content_digest(canonical(DOLLY).table)

    assert digest == "2f3d8070951fc401c70066ad8f7b8ab3f0d2b2a04ce2322864ec30bf9cbf1854"
