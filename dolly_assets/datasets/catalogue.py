"""The datasets known by name: declared in YAML, added by hand, or found in the inbox.

Added datasets are kept in the store, which is shared: what is added on one machine is known on all.
How a source is read is the business of `sources`.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from dolly_assets.core.errors import ArtifactError, DatasetError
from dolly_assets.core.names import check_dataset_name
from dolly_assets.core.text import one_line
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.storage.object_store import ObjectStore

if TYPE_CHECKING:
    from dolly_assets.datasets.inbox import Inbox

_PREFIX = "catalogue"


class _Arrived(NamedTuple):
    """The datasets in the inbox: those that can be used, and why the others cannot."""

    usable: dict[str, DatasetConfig]
    rejected: dict[str, str]


class Catalogue:
    """Looks up datasets by name.

    A declared dataset takes precedence over an added one of the same name, and that over the inbox.
    """

    def __init__(
        self, objects: ObjectStore, declared: Iterable[DatasetConfig], inbox: "Inbox | None" = None
    ) -> None:
        self._objects = objects
        self._declared = {dataset.name: dataset for dataset in declared}
        self._inbox = inbox

    def all(self) -> list[DatasetConfig]:
        """Return every known dataset, sorted by name, without those that the inbox rejects."""
        return [dataset for _, dataset in sorted({**self._arrived().usable, **self.kept()}.items())]

    def kept(self) -> dict[str, DatasetConfig]:
        """Return the declared and added datasets by name: those known without the inbox."""
        added = {dataset.name: dataset for dataset in map(self._read, self._objects.keys(_PREFIX))}
        return {**added, **self._declared}

    def get(self, name: str) -> DatasetConfig:
        """Return the dataset of that name.

        Raises:
            DatasetError: The name is not allowed; it is unknown, where the text lists the known
                ones; or the inbox rejects the dataset.
        """
        check_dataset_name(name)
        kept = self.kept()
        if name in kept:
            return kept[name]
        if self._inbox and (arrival := self._inbox.arrivals().get(name)):
            return self._inbox.config(arrival)
        raise DatasetError(
            f"unknown dataset {name!r}; known: "
            f"{', '.join(item.name for item in self.all()) or 'none'}. Add it with: dolly datasets "
            "add NAME SOURCE"
        )

    def add(self, dataset: DatasetConfig) -> None:
        """Add a dataset for all users of this store.

        Adding the same source again changes its licence and kind of answers.

        Raises:
            DatasetError: The name is not allowed, is declared, or already has another source.
        """
        check_dataset_name(dataset.name)
        if dataset.name in self._declared:
            raise DatasetError(
                f"dataset {dataset.name!r} is declared in YAML: change it there, or choose another "
                "name"
            )
        existing = self.kept().get(dataset.name)
        if existing and existing.source != dataset.source:
            raise DatasetError(
                f"dataset {dataset.name!r} is already {existing.source}; choose another name for "
                f"{dataset.source}"
            )
        self._objects.write(f"{_PREFIX}/{dataset.name}.json", dataset.model_dump_json().encode())

    def rejected(self) -> dict[str, str]:
        """Return why the inbox rejects datasets, by name."""
        return self._arrived().rejected

    def _arrived(self) -> "_Arrived":
        """Sort what the inbox holds; one that cannot be used keeps none of the others away."""
        arrived = _Arrived({}, {})
        if self._inbox:
            for name, arrival in self._inbox.arrivals().items():
                try:
                    arrived.usable[name] = self._inbox.config(arrival)
                except (DatasetError, ArtifactError) as error:
                    arrived.rejected[name] = one_line(error)
        return arrived

    def _read(self, key: str) -> DatasetConfig:
        try:
            return DatasetConfig.model_validate_json(self._objects.read_all(key))
        except ValidationError as error:
            raise DatasetError(
                f"{key} in the store does not describe a dataset: {one_line(error)}"
            ) from error
