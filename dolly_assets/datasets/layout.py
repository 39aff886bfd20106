"""Which files of a folder are the examples to train on: its configurations and their train split.

Knows the names of files and what describes them (the card of a clone, and what `save_to_disk`
writes), not the content of data files. The rules are those of Hugging Face's `datasets`, with one
exception: folders side by side that each have a train split are configurations, not one dataset.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.formats import SUFFIXES
from dolly_assets.datasets.hub_card import HUB_CARD, TRAIN, Configuration, HubCard, read_hub_card
from dolly_assets.datasets.schema import shown_names

SPLIT_KEYWORDS = {
    TRAIN: ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SAVED_SPLITS, SAVED_STATE = "dataset_dict.json", "state.json"
DESCRIPTIONS = (
    HUB_CARD,
    SAVED_SPLITS,
    "config.json",
    "dataset_info.json",
    "dataset_infos.json",
)
"""Names of files that describe a dataset and hold no examples."""

Splits = Mapping[str, Sequence[str]]
"""Split -> its files, by name."""

_SHARD = re.compile(r"data/(?P<split>\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*", re.ASCII)
_SEPARATOR = "[-._ 0-9]"
_IN_FOLDER_NAME, _IN_FILE_NAME = (
    {
        split: re.compile(rf"(?:.*{_SEPARATOR})?(?:{'|'.join(keywords)}){end}", re.DOTALL)
        for split, keywords in SPLIT_KEYWORDS.items()
    }
    for end in (rf"(?:{_SEPARATOR}.*)?", rf"{_SEPARATOR}.*")
)


@dataclass(frozen=True)
class Layout:
    """The files of a folder that are read, and the others.

    Attributes:
        files: Names of the files to read, in their order.
        left_out: Name -> why it is not read, of all others.
        license: The licence that the card states, if it does.
    """

    files: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    license: str | None = None


def choose_files(
    names: Iterable[str],
    read: Callable[[str], bytes],
    *,
    source: str,
    configuration: str | None = None,
) -> Layout:
    """Choose the files of a folder's train split.

    Args:
        names: The files below the folder, as paths with `/`, without hidden ones.
        read: Returns the content of one that describes the dataset.
        source: What errors call the folder.
        configuration: The configuration to read, where there are several.

    Raises:
        DatasetError: There are no data files or no train split; or there are several configurations
            and none was chosen, or not the one that was; or a description is wrong.
    """
    names = sorted(names)
    described = _descriptions(names)
    data = [name for name in names if _is_data(name) and name not in described]
    if not data:
        raise DatasetError(
            f"{source}: a folder without dataset files; expected names that end in "
            f"{', '.join(SUFFIXES)}"
        )
    card = read_hub_card(read(HUB_CARD), source=source) if HUB_CARD in described else HubCard()
    if SAVED_SPLITS in described:
        found: dict[str, Splits] = {"default": _saved_splits(data, read(SAVED_SPLITS), source)}
    elif card.configurations:
        found = {item.name: _stated_splits(data, item) for item in card.configurations}
    else:
        found = _found_configurations(data)
    chosen = _chosen(found, card.configurations, configuration, source)
    files, not_saved = _as_saved(_train(found[chosen], source), described, read, source)
    reasons = {
        **dict.fromkeys(names, "not a dataset file"),
        **dict.fromkeys(data, "in no split"),
        **_reasons(found, chosen),
        **not_saved,
        **dict.fromkeys(described, "describes the dataset"),
    }
    chosen_files = frozenset(files)
    left_out = {name: reasons[name] for name in names if name not in chosen_files}
    return Layout(files, left_out, card.license)


def _descriptions(names: Sequence[str]) -> dict[str, None]:
    """Return the files that describe the dataset; a state does so beside Arrow files only."""
    saved = {_folder(name) for name in names if name.endswith(".arrow")}
    return {
        name: None
        for name in names
        if (file := name.rpartition("/")[2]) in DESCRIPTIONS
        or (file == SAVED_STATE and _folder(name) in saved)
    }


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _is_data(name: str) -> bool:
    """Whether a file may hold examples; those in folders such as `__MACOSX` do not."""
    return name.lower().endswith(SUFFIXES) and not any(
        part.startswith("__") for part in name.split("/")[:-1]
    )


def _saved_splits(data: Sequence[str], content: bytes, source: str) -> Splits:
    """Return the splits of what `DatasetDict.save_to_disk` wrote, a folder each."""
    splits = _stated(content, "splits", f"{source}: {SAVED_SPLITS}")
    return {
        split: [name for name in data if _folder(name) == split]
        for split in splits
        if isinstance(split, str)
    }


def _stated_splits(data: Sequence[str], configuration: Configuration) -> Splits:
    """Return the splits of a configuration of the card."""
    folder = configuration.folder
    inside = [name.removeprefix(folder) for name in data if name.startswith(folder)]
    if configuration.patterns is None:
        (splits, _) = _splits_by_name(inside)
        return {split: [folder + name for name in of_split] for split, of_split in splits.items()}
    return {
        split: [
            folder + name
            for path in paths
            for name in inside
            if _matches(name, path.removeprefix("./"))
        ]
        for split, paths in configuration.patterns.items()
    }


def _matches(name: str, pattern: str) -> bool:
    """Whether a path matches a pattern, in which `**` stands for any number of folders.

    It takes time proportional to the two lengths, whatever the pattern.
    """
    parts = name.split("/")
    matched = {0}  # how many parts the pattern so far can stand for
    for piece in pattern.split("/"):
        if piece == "**":
            matched = set(range(min(matched, default=len(parts) + 1), len(parts) + 1))
        else:
            matched = {
                count + 1
                for count in matched
                if count < len(parts) and fnmatchcase(parts[count], piece)
            }
    return len(parts) in matched


def _found_configurations(data: Sequence[str]) -> dict[str, Splits]:
    """Return the splits that names show; of each folder, if several have a train split."""
    splits, places = _splits_by_name(data)
    folders = sorted({places[name] for name in splits.get(TRAIN, ()) if name in places})
    if len(folders) < 2:
        return {"default": splits}
    return {
        folder or ".": {
            split: [name for name in of_split if places.get(name) == folder]
            for split, of_split in splits.items()
        }
        for folder in folders
    }


def _splits_by_name(data: Sequence[str]) -> tuple[Splits, dict[str, str]]:
    """Return the splits by the first rule that applies, and the folder in which each file's is."""
    shards: dict[str, list[str]] = {}
    for name in data:
        if shard := _SHARD.fullmatch(name):
            shards.setdefault(shard["split"], []).append(name)
    if shards:
        return shards, {}
    for place in (_place_by_folder, _place_by_file):
        splits: dict[str, list[str]] = {}
        places: dict[str, str] = {}
        for split in SPLIT_KEYWORDS:
            for name in data:
                if (folder := place(name, split)) is not None:
                    splits.setdefault(split, []).append(name)
                    places[name] = folder
        if splits:
            return splits, places
    return {TRAIN: data}, {}


def _place_by_folder(name: str, split: str) -> str | None:
    """Return the folder around the first folder that is named like a split, or None."""
    folders = name.split("/")[:-1]
    for depth, folder in enumerate(folders):
        if _IN_FOLDER_NAME[split].fullmatch(folder):
            return "/".join(folders[:depth])
    return None


def _place_by_file(name: str, split: str) -> str | None:
    """Return the folder of a file that is named like a split, or None."""
    folder, _, file = name.rpartition("/")
    return folder if _IN_FILE_NAME[split].fullmatch(file) else None


def _chosen(
    found: Mapping[str, Splits],
    stated: Sequence[Configuration],
    configuration: str | None,
    source: str,
) -> str:
    """Return the name of the configuration to read."""
    names = shown_names(list(found))
    if configuration is not None:
        if configuration not in found:
            raise DatasetError(f"{source}: no configuration {configuration!r}; found {names}")
        return configuration
    defaults = [item.name for item in stated if item.is_default]
    if len(found) > 1 and len(defaults) != 1:
        raise DatasetError(
            f"{source}: several configurations: {names}; choose one by its name after a #, such as "
            f"{source}#{next(iter(found))}"
        )
    return defaults[0] if len(found) > 1 else next(iter(found))


def _train(splits: Splits, source: str) -> tuple[str, ...]:
    files = tuple(dict.fromkeys(splits.get(TRAIN, ())))
    if files:
        return files
    if TRAIN in splits:
        raise DatasetError(f"{source}: the files of its train split are missing; copy it again")
    raise DatasetError(
        f"{source}: no train split; found {shown_names(list(splits))}: name the folder or the file "
        "to train on instead"
    )


def _as_saved(
    files: Sequence[str], described: Mapping[str, None], read: Callable[[str], bytes], source: str
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Leave out what `save_to_disk` did not write, such as caches, and why."""
    left_out: dict[str, str] = {}
    by_folder: dict[str, list[str]] = {}
    for name in files:
        by_folder.setdefault(_folder(name), []).append(name)
    for folder, inside in by_folder.items():
        prefix = f"{folder}/" if folder else ""
        if (state := prefix + SAVED_STATE) not in described:
            continue
        where = f"{source}: {state}"
        entries = _stated(read(state), "_data_files", where)
        saved = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries]
        if missing := [name for name in saved if f"{prefix}{name}" not in inside]:
            raise DatasetError(f"{where}: its file {missing[0]} is missing; copy the folder again")
        left_out |= {
            name: "not part of what was saved"
            for name in inside
            if name.removeprefix(prefix) not in saved
        }
    return tuple(name for name in files if name not in left_out), left_out


def _stated(content: bytes, key: str, where: str) -> list[object]:
    """Return the list under a key of a description in JSON."""
    try:
        stated = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: broken JSON: {error}; save the dataset again") from error
    entries = stated.get(key) if isinstance(stated, dict) else None
    if not isinstance(entries, list):
        raise DatasetError(f"{where}: expected a list of {key!r}; save the dataset again")
    return entries


def _reasons(found: Mapping[str, Splits], chosen: str) -> dict[str, str]:
    """Return why files are left out, by name; those of the chosen configuration by their split."""
    others = {
        name: f"configuration {other}"
        for other, splits in found.items()
        for of_split in splits.values()
        for name in of_split
    }
    splits = found[chosen].items()
    return others | {name: f"split {split}" for split, of_split in splits for name in of_split}
