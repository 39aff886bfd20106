"""What assets share: the partitions and the pool.

Datasets come and go; a family's epochs are fixed by its recipe.
"""

from collections.abc import Iterable

import dagster as dg

from dolly_assets.core.names import epoch_key
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress, split_partition

GPU_POOL = "gpu"  # its limit is the number of workers that train or score at once
DATASETS = dg.DynamicPartitionsDefinition(name="dataset")


def dataset_epochs(family: ModelFamily) -> dg.MultiPartitionsDefinition:
    """Return the partitions dataset × epoch of a family; epoch 00 is the base model."""
    epochs = [epoch_key(epoch) for epoch in range(family.recipe.epochs + 1)]
    return dg.MultiPartitionsDefinition(
        {"dataset": DATASETS, "epoch": dg.StaticPartitionsDefinition(epochs)}
    )


def partition_key(dataset: str, epoch: int) -> dg.MultiPartitionKey:
    """Return the partition of one epoch."""
    return dg.MultiPartitionKey({"dataset": dataset, "epoch": epoch_key(epoch)})


def partition_of(address: ArtifactAddress) -> str | None:
    """Return the partition of an address; with an epoch, as a key of two dimensions."""
    if address.epoch is None:
        return address.partition_key
    return partition_key(address.dataset, address.epoch)


def epochs_by_dataset(keys: Iterable[str]) -> dict[str, list[int]]:
    """Sort a run's partitions `dataset|epoch` by dataset, each with its epochs, ascending."""
    by_dataset: dict[str, list[int]] = {}
    for key in keys:
        dataset, epoch = split_partition(key)
        by_dataset.setdefault(dataset, []).append(epoch or 0)
    return {dataset: sorted(epochs) for dataset, epochs in by_dataset.items()}
