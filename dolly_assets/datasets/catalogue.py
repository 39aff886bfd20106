"""The datasets that are known by name: those declared in YAML, those added by hand, and those in the inbox.

What was added lives in the store, which is shared: a dataset added on one machine is known on all
of them.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import ValidationError

from dolly_assets.core.errors import DatasetError
from dolly_assets.core.names import check_dataset_name
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.storage.object_store import ObjectStore

if TYPE_CHECKING:
    from dolly_assets.datasets.inbox import Inbox

_PREFIX = "catalogue"


class Catalogue:
    """Looks datasets up by name.

    A declared one wins over an added one of the same name, and that over the inbox.
    """

    def __init__(
        self, objects: ObjectStore, declared: Iterable[DatasetConfig], inbox: "Inbox | None" = None
    ) -> None:
        self._objects = objects
        self._declared = {dataset.name: dataset for dataset in declared}
        self._inbox = inbox

    def all(self) -> list[DatasetConfig]:
        """Every known dataset, by name; what the inbox holds but cannot be taken is not one."""
        return [dataset for _, dataset in sorted({**self._arrived(), **self.kept()}.items())]

    def kept(self) -> dict[str, DatasetConfig]:
        """The declared and the added datasets: those that are known whatever the inbox holds."""
        added = {dataset.name: dataset for dataset in map(self._read, self._objects.keys(_PREFIX))}
        return {**added, **self._declared}

    def get(self, name: str) -> DatasetConfig:
        """The dataset of that name.

        Raises:
            DatasetError: The name is not allowed, or not known; the text lists the known ones. Or
                it is in the inbox and cannot be taken.
        """
        check_dataset_name(name)
        kept = self.kept()
        if name in kept:
            return kept[name]
        if self._inbox and (arrival := self._inbox.arrivals().get(name)):
            return self._inbox.config(arrival)
        raise DatasetError(
            f"unknown dataset {name!r}; known: {', '.join(item.name for item in self.all()) or 'none'}. "
            "Add it with: dolly datasets add NAME SOURCE"
        )

    def add(self, dataset: DatasetConfig) -> None:
        """Adds a dataset for everyone who uses this store; the same source again can change its licence and answers.

        Raises:
            DatasetError: The name is not allowed, is declared, or already means another source.
        """
        check_dataset_name(dataset.name)
        if dataset.name in self._declared:
            raise DatasetError(
                f"dataset {dataset.name!r} is declared in YAML: change it there, or choose another name"
            )
        existing = self.kept().get(dataset.name)
        if existing and existing.source != dataset.source:
            raise DatasetError(
                f"dataset {dataset.name!r} is already {existing.source}; choose another name for {dataset.source}"
            )
        self._objects.write(f"{_PREFIX}/{dataset.name}.json", dataset.model_dump_json().encode())

    def _arrived(self) -> dict[str, DatasetConfig]:
        arrived = {}
        for name, arrival in self._inbox.arrivals().items() if self._inbox else ():
            with suppress(DatasetError):
                arrived[name] = self._inbox.config(arrival)  # pyright: ignore[reportOptionalMemberAccess]
        return arrived

    def _read(self, key: str) -> DatasetConfig:
        try:
            return DatasetConfig.model_validate_json(self._objects.read_all(key))
        except ValidationError as error:
            raise DatasetError(
                f"{key} in the store does not describe a dataset: {error}"
            ) from error
