"""What assets of scores and samples share: one worker reads several epochs' checkpoints."""

from collections.abc import Callable, Iterator

import dagster as dg

from dolly_assets.dagster_support.events import materialization_of
from dolly_assets.dagster_support.partitions import GPU_POOL, dataset_epochs, epochs_by_dataset
from dolly_assets.dagster_support.resources import StoreResource, WorkerResource
from dolly_assets.family import ModelFamily
from dolly_assets.registry.kinds import AssetKind
from dolly_assets.registry.queries import required_checkpoints
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.spec import Task

# Not the policy of model_checkpoint: a backfill then starts scoring an epoch while the next one
# still trains.
SEVERAL_EPOCHS_PER_RUN = dg.BackfillPolicy.multi_run(max_partitions_per_run=100)


def build_per_epoch_asset(
    family: ModelFamily,
    kind: AssetKind,
    *,
    description: str,
    kinds: set[str],
    task: Callable[[ArtifactStore, str, dict[int, Artifact]], Task],
) -> dg.AssetsDefinition:
    """Return an asset by dataset and epoch that a worker makes from each epoch's checkpoint.

    Args:
        family: The family that has it.
        kind: The kind of its artifacts.
        description: What Dagster shows of it.
        kinds: Dagster's tags of technologies.
        task: Returns the worker's task for a store, a dataset and its epochs' checkpoints.
    """

    @dg.multi_asset(
        name=f"{family.name}__{kind.name}",
        specs=[
            dg.AssetSpec(
                kind.key(family.name),
                deps=kind.input_keys(family.name),
                skippable=True,
                group_name=family.name,
                kinds=kinds,
                description=description,
                code_version=kind.code_version(family),
            )
        ],
        partitions_def=dataset_epochs(family),
        backfill_policy=SEVERAL_EPOCHS_PER_RUN,
        pool=GPU_POOL,
    )
    def per_epoch(
        context: dg.AssetExecutionContext, store: StoreResource, worker: WorkerResource
    ) -> Iterator[dg.Output]:
        artifacts = store.open()
        for dataset, epochs in epochs_by_dataset(context.partition_keys).items():
            checkpoints = required_checkpoints(artifacts, family, dataset, epochs)
            worker.run(
                context,
                family,
                task(artifacts, dataset, checkpoints),
                lambda item: context.log_event(materialization_of(item)),
            )
        yield from ()

    return per_epoch
