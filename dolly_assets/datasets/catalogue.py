"""The datasets known by name: declared in YAML, added by hand, or found in the inbox.

Added datasets are kept in the store, which is shared: what is added on one machine is known on all.
How a source is read is the business of `sources`.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import ValidationError

from dolly_assets.core.errors import ArtifactError, ConfigurationError, DatasetError
from dolly_assets.core.names import check_dataset_name
from dolly_assets.core.text import one_line
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.storage.object_store import ObjectStore

if TYPE_CHECKING:
    from dolly_assets.datasets.inbox import Inbox

_PREFIX = "catalogue"


class Found(NamedTuple):
    """Datasets by name: those that can be used, and why the others cannot."""

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

    def found(self) -> Found:
        """Return every known dataset, sorted by name, and those that are rejected."""
        arrived, added = self._arrived(), self._added()
        usable = {**arrived.usable, **added.usable, **self._declared}
        return Found(dict(sorted(usable.items())), {**arrived.rejected, **added.rejected})

    def all(self) -> list[DatasetConfig]:
        """Return every known dataset, sorted by name, without those that are rejected."""
        return [*self.found().usable.values()]

    def kept(self) -> dict[str, DatasetConfig]:
        """Return the declared and added datasets by name: those known without the inbox."""
        return {**self._added().usable, **self._declared}

    def get(self, name: str) -> DatasetConfig:
        """Return the dataset of that name.

        Raises:
            DatasetError: The name is not allowed; it is unknown, where the text lists the known
                ones; or the dataset is rejected.
        """
        check_dataset_name(name)
        if kept := self._kept(name):
            return kept
        if self._inbox and (arrival := self._inbox.arrivals().get(name)):
            return self._inbox.config(arrival)
        raise DatasetError(
            f"unknown dataset {name!r}; known: "
            f"{', '.join(item.name for item in self.all()) or 'none'}. Add it with: dolly datasets "
            "add NAME SOURCE"
        )

    def add(self, dataset: DatasetConfig, *, replace: bool = False) -> None:
        """Add a dataset for all users of this store.

        Args:
            dataset: The dataset.
            replace: Whether it may take the place of one that was added under its name.

        Raises:
            DatasetError: The name is not allowed, is declared, or is taken.
        """
        self.check_is_free(dataset.name, replace=replace)
        key, content = _key(dataset.name), dataset.model_dump_json().encode()
        if replace:
            self._objects.write(key, content)
        elif not self._objects.create(key, content):
            raise DatasetError(f"dataset {dataset.name!r} was just added; choose another name")

    def check_is_free(self, name: str, *, replace: bool = False) -> None:
        """Raise DatasetError if `add` would."""
        check_dataset_name(name)
        if name in self._declared:
            raise DatasetError(
                f"dataset {name!r} is declared in YAML: change it there, or choose another name"
            )
        if replace:
            return
        if existing := self._kept(name):
            raise DatasetError(
                f"dataset {name!r} is already {existing.source} (license {existing.license}, "
                f"answers {existing.answers}); choose another name, or replace it with --replace"
            )
        if self._inbox and name in self._inbox.arrivals():
            raise DatasetError(
                f"dataset {name!r} is already in the inbox; choose another name, or put --replace "
                "to hide that one"
            )

    def remove(self, name: str) -> DatasetConfig:
        """Remove a dataset that was added, and return it; artifacts made from it stay.

        Raises:
            DatasetError: The dataset is unknown, or was not added but declared or found in the
                inbox.
        """
        dataset, origin = self.get(name), self.origin(name)
        if origin == "declared":
            raise DatasetError(f"dataset {name!r} is declared in YAML: remove it there")
        if origin == "inbox":
            raise DatasetError(f"dataset {name!r} is in the inbox: remove {dataset.source} there")
        self._objects.delete([_key(name)])
        return dataset

    def origin(self, name: str) -> Literal["declared", "added", "inbox"]:
        """Return where a known dataset is known from."""
        if name in self._declared:
            return "declared"
        return "added" if self._objects.size_bytes(_key(name)) is not None else "inbox"

    def _kept(self, name: str) -> DatasetConfig | None:
        if name in self._declared:
            return self._declared[name]
        is_added = self._objects.size_bytes(_key(name)) is not None
        return self._read(_key(name)) if is_added else None

    def _added(self) -> Found:
        keys = self._objects.keys(_PREFIX)
        return _sorted_out((PurePosixPath(key).stem, partial(self._read, key)) for key in keys)

    def _arrived(self) -> Found:
        if not self._inbox:
            return Found({}, {})
        arrivals, read = self._inbox.arrivals(), self._inbox.config
        return _sorted_out((name, partial(read, arrival)) for name, arrival in arrivals.items())

    def _read(self, key: str) -> DatasetConfig:
        try:
            return DatasetConfig.model_validate_json(self._objects.read_all(key))
        except (ValidationError, ConfigurationError) as error:
            raise DatasetError(
                f"{key} in the store does not describe a dataset: {one_line(error)}"
            ) from error


def _sorted_out(datasets: Iterable[tuple[str, Callable[[], DatasetConfig]]]) -> Found:
    """Read datasets; one that cannot be read keeps none of the others away."""
    found = Found({}, {})
    for name, read in datasets:
        try:
            found.usable[name] = read()
        except (DatasetError, ArtifactError) as error:
            found.rejected[name] = one_line(error)
    return found


def _key(name: str) -> str:
    return f"{_PREFIX}/{name}.json"
