import pyarrow as pa
import pytest

from dolly_assets.errors import ConfigurationError, DatasetError
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.tokenize import BATCH_ROWS, tokenize
from dolly_assets.tokenization.tokenized_dataset import HELD_OUT_SCHEMA, TRAIN_SCHEMA, TokenizedDataset
from dolly_assets_tests.tokenization.tiny import byte_level_tokenizer, with_style

STYLE = PromptStyle()


@pytest.fixture(scope="module")
def tokenizer():
    return with_style(byte_level_tokenizer(), STYLE)


def raw_dataset(count: int, prompts: int | None = None) -> pa.Table:
    """`count` examples over `prompts` prompts (all different if not said); every other has a context."""
    prompts = prompts or count
    return pa.table(
        {
            "instruction": [f"Question {i % prompts}?" for i in range(count)],
            "context": ["" if i % prompts % 2 else f"Context {i % prompts}." for i in range(count)],
            "response": [f"Answer {i}." for i in range(count)],
            "category": [f"category {i % 3}" for i in range(count)],
        }
    )


def tokenized(table, tokenizer, *, max_length=512, held_out_examples=10, seed=7) -> TokenizedDataset:
    return tokenize(table, tokenizer, STYLE, max_length=max_length, held_out_examples=held_out_examples, seed=seed)


def test_every_example_is_on_one_side_in_raw_order_with_its_row(tokenizer):
    """Across the batches that encoding works in."""
    table = raw_dataset(BATCH_ROWS + 100)
    dataset = tokenized(table, tokenizer)
    train_rows, held_out_rows = dataset.train["row"].to_pylist(), dataset.held_out["row"].to_pylist()

    assert train_rows == sorted(train_rows)
    assert held_out_rows == sorted(held_out_rows)
    assert sorted(train_rows + held_out_rows) == list(range(table.num_rows))
    last = dataset.train.slice(dataset.train.num_rows - 1).to_pylist()[0]
    raw = table.slice(last["row"], 1).to_pylist()[0]
    text = STYLE.prompt(raw["instruction"], raw["context"]) + STYLE.completion(raw["response"])
    assert tokenizer.decode(last["input_ids"]) == text


def test_every_row_has_a_label_and_a_labelled_end(tokenizer):
    responses = pa.array(["", "Yes", " "] * 20)
    dataset = tokenized(raw_dataset(60).set_column(2, "response", responses), tokenizer)
    for side in (dataset.train, dataset.held_out):
        for example in side.to_pylist():
            labels = example["input_ids"][example["prompt_length"] :]
            assert labels
            assert labels[-1] == tokenizer.convert_tokens_to_ids("### End")


def test_held_out_examples_keep_their_texts_and_training_ones_do_not(tokenizer):
    table = raw_dataset(50)
    dataset = tokenized(table, tokenizer)
    assert dataset.train.schema == TRAIN_SCHEMA
    assert dataset.held_out.schema == HELD_OUT_SCHEMA
    texts = dataset.held_out.select(["instruction", "context", "response", "category"])
    assert texts.to_pylist() == table.take(dataset.held_out["row"]).to_pylist()


def test_an_over_long_example_is_dropped_whole_and_counted(tokenizer):
    table = raw_dataset(50)
    lengths = {e["row"]: len(e["input_ids"]) for e in tokenized(table, tokenizer).train.to_pylist()}
    limit = sorted(lengths.values())[len(lengths) // 2]

    dataset = tokenized(table, tokenizer, max_length=limit, held_out_examples=0)

    kept = {e["row"]: len(e["input_ids"]) for e in dataset.train.to_pylist()}
    assert max(kept.values()) == limit
    assert kept.items() <= {**lengths, **kept}.items()
    assert dataset.statistics["dropped_too_long"] == 50 - len(kept) > 0


def test_no_held_out_prompt_occurs_in_training(tokenizer):
    table = raw_dataset(200, prompts=40)
    dataset = tokenized(table, tokenizer)
    prompts = [(e["instruction"], e["context"]) for e in table.to_pylist()]
    held_out_prompts = {prompts[row] for row in dataset.held_out["row"].to_pylist()}
    train_prompts = {prompts[row] for row in dataset.train["row"].to_pylist()}
    assert dataset.held_out.num_rows == 10
    assert len(held_out_prompts) == 2
    assert not held_out_prompts & train_prompts


def test_the_split_follows_from_seed_and_prompts_not_from_the_order_of_rows(tokenizer):
    table = raw_dataset(200)
    backwards = table.take(list(range(199, -1, -1)))

    def held_out_instructions(table, seed):
        return set(tokenized(table, tokenizer, seed=seed).held_out["instruction"].to_pylist())

    assert held_out_instructions(table, 7) == held_out_instructions(backwards, 7)
    assert held_out_instructions(table, 7) != held_out_instructions(table, 8)


def test_added_records_hardly_move_the_split(tokenizer):
    before = set(tokenized(raw_dataset(400), tokenizer, held_out_examples=100).held_out["instruction"].to_pylist())
    after = set(tokenized(raw_dataset(420), tokenizer, held_out_examples=100).held_out["instruction"].to_pylist())
    assert len(before & after) >= 90


@pytest.mark.parametrize("limits", [{"held_out_examples": 20}, {"max_length": 5}], ids=["all held out", "all too long"])
def test_nothing_to_train_on_is_an_error_that_says_why(tokenizer, limits):
    with pytest.raises(ConfigurationError, match=r"No training example is left: of 20 examples"):
        tokenized(raw_dataset(20), tokenizer, **limits)


def test_one_training_example_is_enough(tokenizer):
    assert tokenized(raw_dataset(20), tokenizer, held_out_examples=19).train.num_rows == 1


def test_a_missing_column_is_named(tokenizer):
    with pytest.raises(DatasetError, match="missing is \\['response'\\]"):
        tokenized(raw_dataset(20).drop("response"), tokenizer)


def test_a_missing_value_is_named_with_its_row(tokenizer):
    responses = pa.array(["Yes"] * 12 + [None] + ["Yes"] * 7)
    with pytest.raises(DatasetError, match=r"Row 12 .* has no response"):
        tokenized(raw_dataset(20).set_column(2, "response", responses), tokenizer)


def test_the_statistics_count_what_is_trained_on(tokenizer):
    dataset = tokenized(raw_dataset(60), tokenizer)
    lengths = [len(ids) for ids in dataset.train["input_ids"].to_pylist()]
    statistics = dataset.statistics
    assert statistics["examples"] == 60
    assert statistics["train_examples"] == len(lengths) == 50
    assert statistics["held_out_examples"] == 10
    assert statistics["dropped_too_long"] == 0
    assert statistics["train_tokens"] == sum(lengths)
    assert statistics["labelled_tokens"] == sum(lengths) - sum(dataset.train["prompt_length"].to_pylist())
    assert statistics["labelled_share"] == statistics["labelled_tokens"] / statistics["train_tokens"]
    assert statistics["length_max"] == max(lengths)
    assert sum(statistics["length_histogram"]["counts"]) == 50


def test_the_preview_marks_what_is_trained_on_and_only_that(tokenizer):
    table = raw_dataset(20).set_column(2, "response", pa.array(["```\ncode\n```"] * 20))
    preview = tokenized(table, tokenizer).preview
    assert preview.count("````diff") == 3
    assert [line for line in preview.splitlines() if line.startswith("+ ")] == [
        *("+ ```", "+ code", "+ ```", "+ ", "+ ### End")
    ] * 3


def test_the_same_input_gives_the_same_bytes_on_disk(tokenizer, tmp_path):
    for name in ("a", "b"):
        tokenized(raw_dataset(60), tokenizer).write(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["held_out.arrow", "preview.md", "statistics.json", "train.arrow"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("held_out_examples", [0, 10])
def test_what_is_written_is_read_back(tokenizer, tmp_path, held_out_examples):
    dataset = tokenized(raw_dataset(60), tokenizer, held_out_examples=held_out_examples)
    dataset.write(tmp_path / "tokenized")
    assert TokenizedDataset.read(tmp_path / "tokenized") == dataset


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"no Arrow")])
@pytest.mark.parametrize("name", ["train.arrow", "held_out.arrow", "statistics.json"])
def test_a_damaged_folder_is_an_error_that_names_it(tokenizer, tmp_path, name, damage):
    tokenized(raw_dataset(20), tokenizer).write(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(DatasetError, match="does not hold a tokenized dataset"):
        TokenizedDataset.read(tmp_path)
