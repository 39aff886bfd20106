import json
import re

import numpy as np
import pyarrow as pa
import pytest

from dolly_assets.core.errors import ConfigurationError, DatasetError
from dolly_assets.tokenization.labels import LABEL_RUNS
from dolly_assets.tokenization.preview import preview_row
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.tokenize import BATCH_RECORDS, tokenize
from dolly_assets.tokenization.tokenized_dataset import (
    HELD_OUT_SCHEMA,
    TRAIN_SCHEMA,
    TokenizedDataset,
)
from dolly_assets_tests.tokenization.tiny import byte_level_tokenizer, with_style

STYLE = PromptStyle(intro="")


@pytest.fixture(scope="module")
def tokenizer():
    return with_style(byte_level_tokenizer(), STYLE)


def raw_dataset(count: int, prompts: int | None = None) -> pa.Table:
    """`count` examples over `prompts` prompts, all different by default; half have a context."""
    prompts = prompts or count
    return pa.table(
        {
            "instruction": [f"Question {i % prompts}?" for i in range(count)],
            "context": ["" if i % prompts % 2 else f"Context {i % prompts}." for i in range(count)],
            "response": [f"Answer {i}." for i in range(count)],
            "category": [f"category {i % 3}" for i in range(count)],
        }
    )


def tokenized(
    table, tokenizer, *, max_length=512, packing=True, held_out_examples=10, seed=7
) -> TokenizedDataset:
    return tokenize(
        table,
        tokenizer,
        STYLE,
        max_length=max_length,
        packing=packing,
        held_out_examples=held_out_examples,
        seed=seed,
    )


def test_every_example_is_on_one_side_with_its_record(tokenizer) -> None:
    """Across the batches that encoding works in."""
    table = raw_dataset(BATCH_RECORDS + 100)
    dataset = tokenized(table, tokenizer)
    train_records, held_out_records = (
        dataset.train["record"].to_pylist(),
        dataset.held_out["record"].to_pylist(),
    )

    assert held_out_records == sorted(held_out_records)
    assert sorted(train_records + held_out_records) == list(range(table.num_rows))
    last = max(dataset.train.to_pylist(), key=lambda example: example["record"])
    raw = table.slice(last["record"], 1).to_pylist()[0]
    text = STYLE.prompt(raw["instruction"], raw["context"]) + STYLE.completion(raw["response"])
    assert tokenizer.decode(last["input_ids"]) == text


def test_a_row_is_a_slice_that_max_length_holds(tokenizer) -> None:
    dataset = tokenized(raw_dataset(300), tokenizer)
    places = [(example["row"], example["record"]) for example in dataset.train.to_pylist()]
    assert places == sorted(places)
    assert {row for row, _ in places} == set(range(dataset.statistics["rows"]))
    lengths = np.bincount(
        dataset.train["row"].to_numpy(),
        [len(ids) for ids in dataset.train["input_ids"].to_pylist()],
    )
    assert lengths.max() <= 512
    assert dataset.statistics["row_fill"] == pytest.approx(lengths.mean() / 512)
    assert sum(sorted(lengths)[:2]) > 512  # else these two would be one row


def test_without_packing_each_example_is_a_row_of_its_own_in_raw_order(tokenizer) -> None:
    dataset = tokenized(raw_dataset(300), tokenizer, packing=False)
    records, rows = dataset.train["record"].to_pylist(), dataset.train["row"].to_pylist()
    assert records == sorted(records)
    assert rows == list(range(dataset.train.num_rows))
    assert dataset.statistics["examples_per_row"] == 1


def test_packing_moves_examples_and_changes_none(tokenizer) -> None:
    packed, unpacked = (
        tokenized(raw_dataset(300), tokenizer, packing=packing) for packing in (True, False)
    )
    assert packed.train.drop("row").sort_by("record") == unpacked.train.drop("row")
    assert packed.held_out == unpacked.held_out


def test_every_example_has_a_label_and_a_labelled_end(tokenizer) -> None:
    responses = pa.array(["", "Yes", " "] * 20)
    dataset = tokenized(raw_dataset(60).set_column(2, "response", responses), tokenizer)
    for side in (dataset.train, dataset.held_out):
        for example in side.to_pylist():
            labels = example["input_ids"][example["prompt_length"] :]
            assert labels
            assert labels[-1] == tokenizer.convert_tokens_to_ids("### End")


def test_held_out_examples_keep_their_texts_and_training_ones_do_not(tokenizer) -> None:
    table = raw_dataset(50)
    dataset = tokenized(table, tokenizer)
    assert dataset.train.schema == TRAIN_SCHEMA
    assert dataset.held_out.schema == HELD_OUT_SCHEMA
    texts = dataset.held_out.select(["instruction", "context", "response", "category"])
    assert texts.to_pylist() == table.take(dataset.held_out["record"]).to_pylist()


def test_an_over_long_example_is_dropped_whole_and_counted(tokenizer) -> None:
    table = raw_dataset(50)
    lengths = {
        e["record"]: len(e["input_ids"]) for e in tokenized(table, tokenizer).train.to_pylist()
    }
    limit = sorted(lengths.values())[len(lengths) // 2]

    dataset = tokenized(table, tokenizer, max_length=limit, held_out_examples=0)

    kept = {e["record"]: len(e["input_ids"]) for e in dataset.train.to_pylist()}
    assert max(kept.values()) == limit
    assert kept.items() <= {**lengths, **kept}.items()
    assert dataset.statistics["dropped_too_long"] == 50 - len(kept) > 0


def test_no_held_out_prompt_occurs_in_training(tokenizer) -> None:
    table = raw_dataset(200, prompts=40)
    dataset = tokenized(table, tokenizer)
    prompts = [(e["instruction"], e["context"]) for e in table.to_pylist()]
    held_out_prompts = {prompts[record] for record in dataset.held_out["record"].to_pylist()}
    train_prompts = {prompts[record] for record in dataset.train["record"].to_pylist()}
    assert dataset.held_out.num_rows == 10
    assert len(held_out_prompts) == 2
    assert not held_out_prompts & train_prompts


def test_the_split_follows_from_seed_and_prompts_not_from_the_order_of_rows(tokenizer) -> None:
    table = raw_dataset(200)
    backwards = table.take(list(range(199, -1, -1)))

    def held_out_instructions(table, seed):
        return set(tokenized(table, tokenizer, seed=seed).held_out["instruction"].to_pylist())

    assert held_out_instructions(table, 7) == held_out_instructions(backwards, 7)
    assert held_out_instructions(table, 7) != held_out_instructions(table, 8)


def test_added_records_hardly_move_the_split(tokenizer) -> None:
    before = set(
        tokenized(raw_dataset(400), tokenizer, held_out_examples=100)
        .held_out["instruction"]
        .to_pylist()
    )
    after = set(
        tokenized(raw_dataset(420), tokenizer, held_out_examples=100)
        .held_out["instruction"]
        .to_pylist()
    )
    assert len(before & after) >= 90


@pytest.mark.parametrize(
    "limits", [{"held_out_examples": 20}, {"max_length": 5}], ids=["all held out", "all too long"]
)
def test_nothing_to_train_on_is_an_error_with_the_reason(tokenizer, limits) -> None:
    with pytest.raises(ConfigurationError, match="no training example is left: of 20 examples"):
        tokenized(raw_dataset(20), tokenizer, **limits)


def test_one_training_example_is_enough(tokenizer) -> None:
    assert tokenized(raw_dataset(20), tokenizer, held_out_examples=19).train.num_rows == 1


def test_a_missing_column_is_named(tokenizer) -> None:
    with pytest.raises(DatasetError, match=r"lacks the columns \['response'\]"):
        tokenized(raw_dataset(20).drop("response"), tokenizer)


def test_a_missing_value_is_named_with_its_record(tokenizer) -> None:
    responses = pa.array(["Yes"] * 12 + [None] + ["Yes"] * 7)
    with pytest.raises(DatasetError, match=r"record 12 .* has no response"):
        tokenized(raw_dataset(20).set_column(2, "response", responses), tokenizer)


def test_the_statistics_count_what_is_trained_on(tokenizer) -> None:
    dataset = tokenized(raw_dataset(60), tokenizer)
    lengths = [len(ids) for ids in dataset.train["input_ids"].to_pylist()]
    statistics = dataset.statistics
    assert statistics["examples"] == 60
    assert statistics["train_examples"] == len(lengths) == 50
    assert statistics["held_out_examples"] == 10
    assert statistics["dropped_too_long"] == 0
    assert statistics["train_tokens"] == sum(lengths)
    assert statistics["labelled_tokens"] == sum(lengths) - sum(
        dataset.train["prompt_length"].to_pylist()
    )
    assert (
        statistics["labelled_share"] == statistics["labelled_tokens"] / statistics["train_tokens"]
    )
    assert statistics["length_max"] == max(lengths)
    assert statistics["rows"] == len(set(dataset.train["row"].to_pylist()))
    assert statistics["examples_per_row"] == 50 / statistics["rows"]
    assert statistics["processed_per_real_if_padded"] == 512 * statistics["rows"] / sum(lengths)
    assert sum(statistics["length_histogram"]["counts"]) == 50


@pytest.mark.parametrize("packing", [True, False])
def test_the_preview_marks_what_is_trained_on_and_only_that(tokenizer, packing) -> None:
    table = raw_dataset(20).set_column(2, "response", pa.array(["```\ncode\n```"] * 20))
    text = tokenized(table, tokenizer, packing=packing).preview
    examples = text.count("````diff")
    assert examples >= 3
    assert text.count("**Row ") == (1 if packing else examples)
    assert [line for line in text.splitlines() if line.startswith("+ ")] == [
        *("+ ```", "+ code", "+ ```", "+ ", "+ ### End")
    ] * examples


def test_a_previewed_row_shows_where_its_examples_begin(tokenizer) -> None:
    train = tokenized(raw_dataset(60), tokenizer).train
    examples = [example for example in train.to_pylist() if example["row"] == 1]
    text = preview_row(train, 1, tokenizer.backend_tokenizer)
    begins = [int(begin) for begin in re.findall(r"from token (\d+)", text)]
    ids = [token for example in examples for token in example["input_ids"]]
    assert len(examples) > 1
    assert begins == [
        place
        for place, token in enumerate(ids)
        if token == tokenizer.convert_tokens_to_ids(STYLE.instruction_key)
    ]
    assert [int(record) for record in re.findall(r"Record (\d+)", text)] == [
        e["record"] for e in examples
    ]


def test_a_previewed_conversation_marks_every_turn_that_is_trained_on(tokenizer) -> None:
    pieces = [
        "user:\nHi\nassistant:\n",
        "Good day.\n\nWhat is it?### End",
        "\nuser:\nTwo lines,\nplease.\nassistant: ",
        "One,\ntwo.### End",
        "\n",
    ]
    ids = [tokenizer(piece, add_special_tokens=False).input_ids for piece in pieces]
    row = {
        "record": 7,
        "row": 0,
        "input_ids": [token for part in ids for token in part],
        "prompt_length": 4,
    }
    runs = {LABEL_RUNS.name: [len(part) for part in ids]}
    train = pa.Table.from_pylist([{**row, **runs}], TRAIN_SCHEMA.append(LABEL_RUNS))
    text = preview_row(train, 0, tokenizer.backend_tokenizer)
    labelled = len(ids[1]) + len(ids[3])
    assert f"Record 7, from token 0: {len(row['input_ids'])} tokens, " in text
    assert f"{labelled} of them labelled, in 2 turns" in text
    assert text.split("diff\n")[1].splitlines()[:-1] == [
        *("  user:", "  Hi", "  assistant:", "+ Good day.", "+ ", "+ What is it?### End"),
        *("  user:", "  Two lines,", "  please.", "  assistant: ", "+ One,", "+ two.### End"),
    ]


@pytest.mark.parametrize("row", [-1, 10_000])
def test_a_row_that_is_not_there_is_refused_with_those_that_are(tokenizer, row) -> None:
    dataset = tokenized(raw_dataset(60), tokenizer)
    with pytest.raises(ConfigurationError, match=f"0 to {dataset.statistics['rows'] - 1}"):
        preview_row(dataset.train, row, tokenizer.backend_tokenizer)


def test_the_same_input_gives_the_same_bytes_on_disk(tokenizer, tmp_path) -> None:
    for name in ("a", "b"):
        tokenized(raw_dataset(60), tokenizer).write(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["held_out.arrow", "preview.md", "statistics.json", "train.arrow"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("held_out_examples", [0, 10])
def test_the_files_hold_the_tables_the_statistics_and_the_preview(
    tokenizer, tmp_path, held_out_examples
) -> None:
    dataset = tokenized(raw_dataset(60), tokenizer, held_out_examples=held_out_examples)
    dataset.write(tmp_path)
    for name, table in (("train", dataset.train), ("held_out", dataset.held_out)):
        written = pa.ipc.open_file(pa.memory_map(str(tmp_path / f"{name}.arrow"))).read_all()
        assert written.equals(table)
    assert json.loads((tmp_path / "statistics.json").read_text()) == dataset.statistics
    assert (tmp_path / "preview.md").read_text() == dataset.preview + "\n"
