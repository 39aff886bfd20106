"""Tasks of lm-evaluation-harness that are YAML files of one's own, with their data.

They are data alone: what runs Python is refused. Paths of data count from the YAML's folder.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.text import one_line

TASK_FILE = "task.yaml"  # in the store


def is_file(task: str) -> bool:
    """Whether a suite's task is a YAML file, and not the name of a task."""
    return task.endswith((".yaml", ".yml"))


def task_files(file: Path) -> dict[str, Path]:
    """Return a task's YAML and the data beside it, by their paths in the store.

    Raises:
        ConfigurationError: The YAML cannot be read, is no task, runs Python or includes others.
    """
    data = {place: file.parent / name for name, place in _places(_read(file)).items()}
    return {TASK_FILE: file, **data}


def digest_of_files(files: Mapping[str, Path]) -> str:
    """Return the SHA-256 of files and their paths in the store.

    Raises:
        ConfigurationError: One cannot be read.
    """
    found = hashlib.sha256()
    for path, file in sorted(files.items()):
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"{files[TASK_FILE]}: its data {file} cannot be read ({error.strerror}): relative "
                "paths count from the YAML's folder"
            ) from error
        found.update(f"{path}\n{len(content)}\n".encode() + content)
    return found.hexdigest()


def _read(file: Path) -> dict[str, Any]:
    """Return the configuration of a task.

    Raises:
        ConfigurationError: It is none, or not one that is data alone.
    """
    try:
        config = yaml.safe_load(file.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        why = "; tags such as !function run Python" if "!function" in str(error) else ""
        raise ConfigurationError(
            f"{file}: expected the YAML of a task of lm-eval, which is data alone: "
            f"{one_line(error)}{why}"
        ) from error
    if not isinstance(config, dict) or not {"task", "dataset_path"} <= config.keys():
        raise ConfigurationError(
            f"{file}: expected the YAML of a task of lm-eval, with the keys task and dataset_path"
        )
    if "include" in config:
        raise ConfigurationError(f"{file}: include is not followed: write the task in one file")
    return config


def _places(config: Mapping[str, Any]) -> dict[str, str]:
    """Return where a task's data is in the store, by how its YAML names it; URLs are left out."""
    files = (config.get("dataset_kwargs") or {}).get("data_files") or []
    names = dict.fromkeys(each for each in texts_in(files) if "://" not in each)
    return {name: f"data/{number}-{Path(name).name}" for number, name in enumerate(names)}


def texts_in(value: Any) -> Iterator[str]:
    """Yield the strings in nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_in(each)


def located(folder: Path) -> dict[str, Any]:
    """Return the configuration of a task whose files are laid out as in the store.

    Raises:
        ConfigurationError: There is none.
    """
    config = _read(folder / TASK_FILE)
    places = {name: str(folder / place) for name, place in _places(config).items()}
    if not places:
        return config
    kwargs = config["dataset_kwargs"]
    files = _replaced(kwargs["data_files"], places)
    return {**config, "dataset_kwargs": {**kwargs, "data_files": files}}


def _replaced(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return places.get(value, value)
    if isinstance(value, dict):
        return {key: _replaced(each, places) for key, each in value.items()}
    return [_replaced(each, places) for each in value]
