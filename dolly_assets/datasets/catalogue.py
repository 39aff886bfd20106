"""The datasets that are known by name: those declared in YAML, and those added by hand, which live in the store.

The store is shared by everyone who works with it, so a dataset added on one machine is known on all of them.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, ValidationError

from dolly_assets.config import Config
from dolly_assets.datasets.quality.checks import CheckName, Limits
from dolly_assets.errors import DatasetError
from dolly_assets.naming import check_dataset_name
from dolly_assets.storage.object_store import ObjectStore

_PREFIX = "catalogue"


class DatasetConfig(Config):
    """A named source of instruction data."""

    name: str = Field(description="Partition key of the dataset.")
    source: str = Field(description="Hub id, file, s3:// URL, or builtin:demo.")
    license: str = Field(default="unknown", description="SPDX id or the Hub's licence tag.")
    answers: Literal["open", "exact"] = Field(
        default="open", description="exact: one answer is right, so that exact match can be scored."
    )
    description: str = Field(default="", description="What the dataset is, for readers of the catalogue.")
    checks: dict[CheckName, Limits] = Field(
        default={}, description="How much of what a quality check finds is borne, where it is not the default."
    )


class Catalogue:
    """Looks datasets up by name; a declared one wins over an added one of the same name."""

    def __init__(self, objects: ObjectStore, declared: Iterable[DatasetConfig]) -> None:
        self._objects = objects
        self._declared = {dataset.name: dataset for dataset in declared}

    def all(self) -> list[DatasetConfig]:
        """Every known dataset, by name."""
        added = {dataset.name: dataset for dataset in map(self._read, self._objects.keys(_PREFIX))}
        return [dataset for _, dataset in sorted({**added, **self._declared}.items())]

    def get(self, name: str) -> DatasetConfig:
        """The dataset of that name.

        Raises:
            DatasetError: The name is not allowed, or not known; the text lists the known ones.
        """
        check_dataset_name(name)
        known = {dataset.name: dataset for dataset in self.all()}
        if name not in known:
            raise DatasetError(
                f"unknown dataset {name!r}; known: {', '.join(known) or 'none'}. "
                "Add it with: dolly datasets add NAME SOURCE"
            )
        return known[name]

    def add(self, dataset: DatasetConfig) -> None:
        """Adds a dataset for everyone who uses this store; the same source again can change its licence and answers.

        Raises:
            DatasetError: The name is not allowed, is declared, or already means another source.
        """
        check_dataset_name(dataset.name)
        if dataset.name in self._declared:
            raise DatasetError(f"dataset {dataset.name!r} is declared in YAML: change it there, or choose another name")
        known = {existing.name: existing for existing in self.all()}
        existing = known.get(dataset.name)
        if existing and existing.source != dataset.source:
            raise DatasetError(
                f"dataset {dataset.name!r} is already {existing.source}; choose another name for {dataset.source}"
            )
        self._objects.write(f"{_PREFIX}/{dataset.name}.json", dataset.model_dump_json().encode())

    def _read(self, key: str) -> DatasetConfig:
        try:
            return DatasetConfig.model_validate_json(self._objects.read_all(key))
        except ValidationError as error:
            raise DatasetError(f"{key} in the store does not describe a dataset: {error}") from error
