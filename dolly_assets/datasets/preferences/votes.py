"""A dataset of preferences in the store, which grows by one vote at a time.

Each vote is an object of its own that is created in one put. So a process that is killed leaves
the whole vote or nothing, any number of browsers and machines vote at once, and a vote that is
sent again changes nothing. The catalogue knows the dataset from the first vote on.
"""

import json

from dolly_assets.conversations.preference import Preference
from dolly_assets.core.errors import ConfigurationError, DatasetError
from dolly_assets.core.names import check_dataset_name
from dolly_assets.datasets.catalogue import Catalogue
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.storage.object_store import ObjectStore

PREFIX = "preferences"
DESCRIPTION = "Votes from the playground: which of two models' answers was preferred."


class Votes:
    """The votes of a dataset.

    Args:
        objects: The store that keeps them.
        catalogue: Where the dataset becomes known.
        name: The dataset's name.

    Raises:
        ConfigurationError: The name is that of another dataset.
    """

    def __init__(self, objects: ObjectStore, catalogue: Catalogue, name: str) -> None:
        check_dataset_name(name)
        self._objects, self._catalogue, self.name = objects, catalogue, name
        known = catalogue.kept().get(name)
        if known and known.source != self.source:
            raise ConfigurationError(
                f"dataset {name!r} is already {known.source}: choose another name for the votes "
                "with --preferences"
            )
        self._is_known = known is not None

    @property
    def source(self) -> str:
        """Where the catalogue finds the votes: a folder, or a prefix in a store."""
        folder = f"{PREFIX}/{self.name}"
        path = self._objects.local_path(folder)
        return f"{path}/" if path else f"{self._objects.url_of(folder)}/"

    def add(self, vote: Preference) -> bool:
        """Keep a vote; return False if it was kept before, by its id.

        Raises:
            DatasetError: Nothing can be learnt from it: the answers are equal, or the preferred one
                is empty.
            ArtifactError: The store does not take it.
        """
        check_vote(vote)
        line = json.dumps(vote.as_json(), ensure_ascii=False) + "\n"
        is_new = self._objects.create(f"{PREFIX}/{self.name}/{vote.id}.jsonl", line.encode())
        self._make_known()
        return is_new

    def count(self) -> int:
        """Return how many votes were kept."""
        return len(self._objects.keys(f"{PREFIX}/{self.name}"))

    def _make_known(self) -> None:
        """Add the dataset to the catalogue, unless another process has done so."""
        if self._is_known:
            return
        dataset = DatasetConfig(name=self.name, source=self.source, description=DESCRIPTION)
        if self.name not in self._catalogue.kept():
            try:
                self._catalogue.add(dataset)
            except DatasetError:  # another browser's vote was the first
                if self.name not in self._catalogue.kept():
                    raise
        self._is_known = True


def check_vote(vote: Preference) -> None:
    """Raise DatasetError if nothing can be learnt from a vote."""
    if vote.chosen.strip() == vote.rejected.strip():
        raise DatasetError("both answers are equal: there is nothing to prefer, so skip this one")
    if not vote.chosen.strip():
        raise DatasetError("the preferred answer is empty: choose the other one, or skip")
