"""The model families and datasets that YAML declares, read without Dagster where that is possible.

Dagster's components decide what YAML means, but loading Dagster takes longer than most commands
run. Files that hold nothing but our two components are therefore read here, with Dagster's YAML
parser and the components' own models; whatever else a folder holds, and whatever is wrong, is left
to Dagster, whose errors name file, line and key.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.datasets.config import DatasetConfig, DatasetsAttributes
from dolly_assets.family import FamilyAttributes, ModelFamily

BUNDLED = Path(__file__).parents[1] / "defs"
DEFS_FILE = "defs.yaml"
FAMILY_TYPE = "dolly_assets.components.ModelFamilyComponent"
DATASETS_TYPE = "dolly_assets.components.DatasetsComponent"
_OTHER_DEFINITIONS = (".py", ".yaml", ".yml")  # in a folder without defs.yaml


class Declared(NamedTuple):
    """What YAML declares: the model families by name, and the datasets."""

    families: dict[str, ModelFamily]
    datasets: list[DatasetConfig]


def read_declared(environment: Environment) -> Declared:
    """Read the bundled families and datasets, and those of `DOLLY_DEFS`.

    Raises:
        ConfigurationError: A YAML file is wrong; the text names file, line and key.
    """
    try:
        declared = _read_plain(environment)
    except Exception:  # noqa: BLE001 whatever is wrong, Dagster's reading explains it
        declared = None
    return declared or _read_with_dagster(environment)


def _read_plain(environment: Environment) -> Declared | None:
    """Read files that hold nothing but our components; return None if there is anything else."""
    from dagster_shared.yaml_utils import parse_yamls_with_source_position

    folders = [BUNDLED, *([environment.more_defs] if environment.more_defs else [])]
    declared = Declared({}, [])
    for file in (file for folder in folders for file in _files(folder)):
        if file.name != DEFS_FILE:
            return None
        documents = list(parse_yamls_with_source_position(file.read_text("utf-8"), str(file)))
        if not documents:
            return None
        for document in documents:
            if not _add(declared, file.parent, document.value):
                return None
    return declared


def _add(declared: Declared, folder: Path, document: Any) -> bool:
    """Add what a document declares; return whether it is one of our components and no more."""
    if not isinstance(document, dict) or set(document) != {"type", "attributes"}:
        return False
    if document["type"] == DATASETS_TYPE:
        declared.datasets.extend(DatasetsAttributes.model_validate(document["attributes"]).datasets)
        return True
    if document["type"] != FAMILY_TYPE:
        return False
    attributes = FamilyAttributes.model_validate(document["attributes"])
    family = ModelFamily.declared_in(folder, attributes)
    is_new = family.name not in declared.families
    declared.families[family.name] = family
    return is_new


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder in which Dagster looks for definitions, in Dagster's order."""
    if (folder / DEFS_FILE).is_file():
        yield folder / DEFS_FILE
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != "__pycache__":
            yield from _files(path)
        elif path.suffix in _OTHER_DEFINITIONS and path != BUNDLED / "__init__.py":
            yield path


def _read_with_dagster(environment: Environment) -> Declared:
    from dolly_assets.components import code_location
    from dolly_assets.core.yaml_text import check_documents
    from dolly_assets.pipeline.runs import silence_previews
    from dolly_assets.pipeline.yaml_errors import explain

    silence_previews()
    try:
        trees = code_location.component_trees(environment)
        return Declared(code_location.families(trees), code_location.declared_datasets(trees))
    except Exception as error:
        text = explain(error)
        file = None if ".yaml" in text else code_location.first_broken_file(environment)
        if file:
            with suppress(OSError):  # it cannot be read, as the text says
                check_documents(file.read_bytes(), str(file))  # names the line
        raise ConfigurationError(f"{file}: {text}" if file else text) from error
