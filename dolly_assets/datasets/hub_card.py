"""The card of a dataset on the Hub, `README.md`: the front matter that its clone's files follow.

Knows the YAML between the first two lines of `---`, and nothing of the files that it names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dolly_assets.core.errors import ConfigurationError, DatasetError
from dolly_assets.core.yaml_text import parse_yaml

HUB_CARD = "README.md"
TRAIN = "train"
MAX_CARD_BYTES = 2**20
"""Limit of the front matter, which describes every column of every configuration."""
_FENCE = b"---"


@dataclass(frozen=True)
class Configuration:
    """One of the datasets that a repository holds.

    Attributes:
        name: Its name.
        patterns: Split -> the patterns of its files; None if their names show the splits.
        folder: The folder that the patterns are relative to, with a `/` at its end, or empty.
        is_default: Whether it is read unless another one is chosen.
    """

    name: str
    patterns: Mapping[str, tuple[str, ...]] | None = None
    folder: str = ""
    is_default: bool = False


@dataclass(frozen=True)
class HubCard:
    """What a card states: the configurations, and the licence."""

    configurations: tuple[Configuration, ...] = field(default=())
    license: str | None = None


def read_hub_card(content: bytes, *, source: str) -> HubCard:
    """Return what the front matter of a card states, which may be nothing.

    Raises:
        DatasetError: The front matter is not YAML, or its `configs` are not as the Hub defines
            them.
    """
    lines = content.splitlines()
    if not lines or lines[0].strip() != _FENCE or _FENCE not in lines[1:]:
        return HubCard()
    front = b"\n".join(lines[1 : lines.index(_FENCE, 1)])
    where = f"{source}: {HUB_CARD}"
    try:
        stated = parse_yaml(front, f"{where}: front matter", MAX_CARD_BYTES)
    except ConfigurationError as error:
        raise DatasetError(str(error)) from error
    configs, stated_license = stated.get("configs"), stated.get("license")
    if configs is not None and not isinstance(configs, list):
        raise DatasetError(f"{where}: configs: expected a list, one entry for each configuration")
    found = [_configuration(config, where) for config in configs or ()]
    if len({configuration.name for configuration in found}) < len(found):
        raise DatasetError(f"{where}: configs: a config_name occurs twice; rename one")
    return HubCard(tuple(found), stated_license if isinstance(stated_license, str) else None)


def _configuration(config: object, where: str) -> Configuration:
    name = config.get("config_name") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(name, str):
        raise DatasetError(f"{where}: configs: each entry needs a config_name")
    files, folder = config.get("data_files"), config.get("data_dir")
    if folder is not None and not isinstance(folder, str):
        raise DatasetError(f"{where}: configs: {name}: data_dir: expected the name of a folder")
    return Configuration(
        name,
        None if files is None else _patterns(files, f"{where}: configs: {name}: data_files"),
        f"{folder.strip('/')}/".removeprefix("./") if folder else "",
        config.get("default") is True or name == "default",
    )


def _patterns(files: object, where: str) -> dict[str, tuple[str, ...]]:
    """Return the patterns by split; those that name no split are the train split's."""
    entries = files if isinstance(files, list) else [files]
    if (paths := _paths(entries)) is not None:
        return {TRAIN: paths}
    patterns: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        stated = entry if isinstance(entry, dict) else {}
        split, paths = stated.get("split"), _paths(stated.get("path"))
        if not isinstance(split, str) or split in patterns or paths is None:
            raise DatasetError(
                f"{where}: expected paths, or entries with a split, each named once, and a path"
            )
        patterns[split] = paths
    return patterns


def _paths(stated: object) -> tuple[str, ...] | None:
    """Return a path, or the paths of a list; None if they are not strings."""
    paths = stated if isinstance(stated, list) else [stated]
    texts = tuple(path for path in paths if isinstance(path, str))
    return texts if len(texts) == len(paths) else None
