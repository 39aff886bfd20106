"""Where an artifact belongs: the family, asset, dataset and epoch that its name stands for.

The one place that builds names and takes them apart. It knows nothing of what an artifact holds
(`kinds.py`) or whether it exists (`queries.py`); the store itself knows names as text only.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.names import epoch_key
from dolly_assets.storage.artifact import artifact_name

EPOCH = re.compile(r"\d{1,9}", re.ASCII)
SHARED_ASSETS = frozenset({"raw_dataset", "dataset_quality"})
"""Assets whose artifacts belong to no family, so that their names begin with the asset."""


@dataclass(frozen=True)
class ArtifactAddress:
    """The identity of an artifact, of which the store may hold several publications.

    Attributes:
        family: The model family; empty for what all families share.
        asset: The asset's or kind's name, such as `model_checkpoint`.
        dataset: The dataset; empty for what belongs to none, such as a base model.
        epoch: The epoch, where there is one artifact per epoch.
    """

    family: str
    asset: str
    dataset: str = ""
    epoch: int | None = None

    @classmethod
    def parse(cls, name: str) -> Self:
        """Return the address that a name in the store stands for.

        Raises:
            ArtifactError: The name is not one that this package gives.
        """
        family, *rest = name.split("/")
        if family in SHARED_ASSETS and len(rest) < 2:
            family, rest = "", [family, *rest]
        asset, dataset, epoch = (*rest, "", "", "")[:3]
        if not asset or len(rest) > 3 or (epoch and not EPOCH.fullmatch(epoch)):
            raise ArtifactError(
                f"{name!r} is not the name of one of our artifacts: expected FAMILY/ASSET, "
                "FAMILY/ASSET/DATASET or FAMILY/ASSET/DATASET/EPOCH"
            )
        return cls(family, asset, dataset, int(epoch) if epoch else None)

    @classmethod
    def of_partition(cls, asset_key: Sequence[str], partition_key: str | None = None) -> Self:
        """Return the address of an asset's partition, given in Dagster's terms."""
        *family, asset = asset_key
        dataset, epoch = split_partition(partition_key or "")
        return cls("".join(family), asset, dataset, epoch)

    @property
    def name(self) -> str:
        """The name in the store: `demo/model_checkpoint/demo/03`."""
        epoch = [] if self.epoch is None else [epoch_key(self.epoch)]
        return artifact_name([part for part in (*self.asset_key, self.dataset, *epoch) if part])

    @property
    def asset_key(self) -> tuple[str, ...]:
        """The path of the asset's key in Dagster: `("demo", "model_checkpoint")`."""
        return (self.family, self.asset) if self.family else (self.asset,)

    @property
    def partition_key(self) -> str | None:
        """The partition's key in Dagster, `demo|03` or `demo`; None if there are no partitions."""
        if self.epoch is None:
            return self.dataset or None
        return f"{self.dataset}|{epoch_key(self.epoch)}"

    def __str__(self) -> str:
        """Return the asset and partition as a message shows them."""
        of = f", partition {self.partition_key}," if self.partition_key else ""
        return "/".join(self.asset_key) + of


def split_partition(key: str) -> tuple[str, int | None]:
    """Return the dataset and epoch of a partition key: `demo|03` is `("demo", 3)`."""
    dataset, _, epoch = key.partition("|")
    return dataset, int(epoch) if epoch else None
