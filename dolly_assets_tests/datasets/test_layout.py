"""Which files of a folder are read, compared with what `datasets` reads of the same folder."""

import json
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.layout import choose_files
from dolly_assets.datasets.sources import read_source, source_version

if TYPE_CHECKING:
    from datasets import Dataset

CONFIGS = """---
license: cc-by-4.0
configs:
- config_name: en
  data_files:
  - split: train
    path: texts/en-*.jsonl
  - split: test
    path: texts/held_out/**
- config_name: fr
  data_files: texts/fr.jsonl
---
# A dataset
"""
SHARDS = ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"]


def write(folder: Path, *names: str, card: str = "") -> Path:
    """Write files that each hold two records with the file's name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"instruction": f"{name} {number}", "response": "r"} for number in range(2)]
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if card:
        (folder / "README.md").write_text(card)
    return folder


def read_names(source: object) -> list[str]:
    """Return the instructions that are read, sorted."""
    return sorted(read_source(str(source)).table["instruction"].to_pylist())


def names_of_datasets(folder: Path, cache: Path, *configuration: str) -> list[str]:
    """Return the instructions that `datasets` reads, sorted."""
    from datasets import load_dataset

    loaded = load_dataset(str(folder), *configuration, split="train", cache_dir=str(cache))
    return sorted(loaded["instruction"])


@pytest.mark.parametrize(
    "names",
    [
        [*SHARDS, "data/test-00000-of-00001.jsonl", "data/other-00000-of-00001.jsonl"],
        [*SHARDS, "extra.jsonl"],
        ["train.parquet", "test.parquet", "validation.parquet"],
        ["my_train_1.jsonl", "my_dev_1.jsonl", "rest.jsonl"],
        ["data/train/a.jsonl", "data/train/b/c.jsonl", "data/test/a.jsonl"],
        ["default/train/0000.parquet", "default/test/0000.parquet"],
        ["a.jsonl", "deep/b.jsonl"],
        ["constrain.jsonl", "latest.jsonl"],
    ],
)
def test_the_train_split_is_what_datasets_reads(tmp_path: Path, names: list[str]) -> None:
    folder = write(tmp_path / "clone", *names, card="---\nlicense: mit\n---\n")

    assert read_names(folder) == names_of_datasets(folder, tmp_path / "cache")


def test_a_configuration_of_the_card_is_what_datasets_reads(tmp_path: Path) -> None:
    names = ["texts/en-1.jsonl", "texts/en-2.jsonl", "texts/held_out/x.jsonl", "texts/fr.jsonl"]
    folder = write(tmp_path / "clone", *names, card=CONFIGS)

    for configuration in ("en", "fr"):
        expected = names_of_datasets(folder, tmp_path / "cache", configuration)
        assert read_names(f"{folder}#{configuration}") == expected
        assert read_names(f"{folder}/#{configuration}") == expected
    assert source_version(f"{folder}#en") != source_version(f"{folder}#fr")
    assert read_source(f"{folder}#en").left_out == {
        "README.md": "describes the dataset",
        "texts/fr.jsonl": "configuration fr",
        "texts/held_out/x.jsonl": "split test",
    }
    assert read_source(f"{folder}#en").license == "cc-by-4.0"


def test_several_configurations_are_refused_with_their_names_and_how_to_choose(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "clone", "texts/en-1.jsonl", "texts/fr.jsonl", card=CONFIGS)

    with pytest.raises(
        DatasetError, match=rf"several configurations: 'en', 'fr'; choose .* such as {folder}#en$"
    ):
        read_source(str(folder))
    with pytest.raises(DatasetError, match="no configuration 'de'; found 'en', 'fr'"):
        read_source(f"{folder}#de")
    with pytest.raises(DatasetError, match="a file has no configurations; leave out #en"):
        read_source(f"{folder}/texts/fr.jsonl#en")


def test_the_default_configuration_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    card = CONFIGS.replace("config_name: fr\n", "config_name: fr\n  default: true\n")
    names = ["texts/en-1.jsonl", "texts/held_out/x.jsonl", "texts/fr.jsonl"]
    folder = write(tmp_path / "clone", *names, card=card)

    assert read_names(folder) == names_of_datasets(folder, tmp_path / "cache")
    assert read_source(str(folder)).left_out["texts/en-1.jsonl"] == "configuration en"


def test_a_folder_of_the_card_has_splits_of_its_own(tmp_path: Path) -> None:
    card = "---\nconfigs:\n- config_name: fr\n  data_dir: fr\n---\n"
    folder = write(tmp_path / "clone", "fr/train.jsonl", "fr/test.jsonl", "en.jsonl", card=card)

    assert read_names(folder) == names_of_datasets(folder, tmp_path / "cache")


def test_folders_that_each_have_a_train_split_are_never_mixed(tmp_path: Path) -> None:
    names = ["en/train.jsonl", "en/test.jsonl", "fr/train.jsonl", "fr/test.jsonl"]
    folder = write(tmp_path / "clone", *names)

    with pytest.raises(DatasetError, match="several configurations: 'en', 'fr'"):
        read_source(str(folder))
    assert read_names(f"{folder}#fr") == ["fr/train.jsonl 0", "fr/train.jsonl 1"]
    assert read_names(folder / "fr") == read_names(f"{folder}#fr")


def test_a_folder_without_train_split_is_refused_with_the_splits_that_it_has(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path, "test.jsonl", "dev.jsonl")

    with pytest.raises(DatasetError, match="no train split; found 'validation', 'test'"):
        read_source(str(folder))


@pytest.mark.parametrize(
    ("card", "problem"),
    [
        ("---\nconfigs: [\n---\n", "README.md: front matter: not YAML"),
        ("---\nconfigs: en\n---\n", "README.md: configs: expected a list"),
        ("---\nconfigs: [en]\n---\n", "README.md: configs: each entry needs a config_name"),
        (
            "---\nconfigs:\n- {config_name: en, data_files: [{split: train}]}\n---\n",
            "README.md: configs: en: data_files: expected paths",
        ),
        (
            "---\nconfigs:\n- {config_name: en, data_files: b/*.jsonl}\n---\n",
            "the files of its train split are missing",
        ),
    ],
)
def test_a_wrong_card_is_refused(tmp_path: Path, card: str, problem: str) -> None:
    with pytest.raises(DatasetError, match=re.escape(problem)):
        read_source(str(write(tmp_path, "a.jsonl", card=card)))


def test_names_are_sorted_into_splits_as_datasets_does(tmp_path: Path) -> None:
    """Only files by name, without reading them: a dozen random folders."""
    from datasets.data_files import DataFilesDict, get_data_patterns

    random.seed(7)
    words = ["train", "test", "dev", "eval", "data", "x", "Train", "training", "valid", "retrain"]
    for number in range(12):
        folder = tmp_path / str(number)
        for _ in range(random.randint(1, 6)):
            stem = random.choice("-_. 0").join(random.choices(words, k=random.randint(1, 3)))
            inside = random.choice(["", "", "data/", f"{random.choice(words)}/", "data/train/"])
            write(folder, f"{inside}{stem}.jsonl")
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.jsonl")]
        files = DataFilesDict.from_patterns(get_data_patterns(str(folder)), str(folder))
        expected = {Path(file).relative_to(folder).as_posix() for file in files.get("train", ())}
        try:
            found = set(choose_files(names, str.encode, source="s").files)
        except DatasetError as error:
            if "several configurations" in str(error):
                assert len({Path(name).parent for name in expected}) > 1
                continue
            found = set[str]()
        assert found == expected, names


@pytest.fixture
def saved() -> "Dataset":
    from datasets import Dataset

    return Dataset.from_dict({"instruction": ["a", "b", "c"], "response": ["1", "2", "3"]})


def test_a_saved_dataset_is_read_without_its_caches(tmp_path: Path, saved: "Dataset") -> None:
    from datasets import Dataset, load_from_disk

    folder = tmp_path / "saved"
    saved.save_to_disk(folder, num_shards=2)
    (folder / "cache-1f.arrow").write_bytes((folder / "data-00000-of-00002.arrow").read_bytes())
    loaded = load_from_disk(folder)
    assert isinstance(loaded, Dataset)

    source = read_source(str(folder))

    assert source.table.select(["instruction", "response"]).to_pylist() == loaded.to_list()
    assert source.format == "arrow"
    assert source.left_out == {
        "cache-1f.arrow": "not part of what was saved",
        "dataset_info.json": "describes the dataset",
        "state.json": "describes the dataset",
    }


def test_of_a_saved_dataset_dict_the_train_split_is_read(tmp_path: Path, saved: "Dataset") -> None:
    from datasets import DatasetDict

    splits: dict[Any, Dataset] = {
        "test": saved.select([0]),
        "train": saved.select([1, 2]),
        "train_2": saved,
    }
    DatasetDict(splits).save_to_disk(tmp_path)

    source = read_source(str(tmp_path))

    assert source.table["instruction"].to_pylist() == ["b", "c"]
    left_out = source.left_out
    assert left_out["test/data-00000-of-00001.arrow"] == "split test"
    assert left_out["train_2/data-00000-of-00001.arrow"] == "split train_2"


def test_a_saved_dataset_that_lacks_a_file_is_refused(tmp_path: Path, saved: "Dataset") -> None:
    saved.save_to_disk(tmp_path, num_shards=2)
    (tmp_path / "data-00001-of-00002.arrow").unlink()

    with pytest.raises(DatasetError, match=r"its file data-00001-of-00002\.arrow is missing"):
        read_source(str(tmp_path))


def test_json_that_holds_no_examples_is_left_out_of_a_folder_and_named(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl")
    for name in ("dataset_infos.json", "config.json", "statistics.json"):
        (tmp_path / name).write_text('{"rows": 2}')
    (tmp_path / "notes.txt").write_text("x")

    source = read_source(str(tmp_path))

    assert source.files == {"a.jsonl": 2}
    assert source.left_out == {
        "config.json": "describes the dataset",
        "dataset_infos.json": "describes the dataset",
        "notes.txt": "not a dataset file",
        "statistics.json": "JSON, but no array of objects",
    }
