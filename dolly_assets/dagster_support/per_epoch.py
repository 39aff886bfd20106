"""What assets of scores and samples share: one worker reads several epochs' checkpoints."""

from collections.abc import Callable, Iterator, Mapping

import dagster as dg

from dolly_assets.dagster_support.events import materialization_of
from dolly_assets.dagster_support.partitions import GPU_POOL, dataset_epochs, epochs_by_dataset
from dolly_assets.dagster_support.resources import StoreResource, WorkerResource
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import AssetKind
from dolly_assets.registry.queries import is_score_of, latest, required_checkpoints
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
    check: Callable[[dg.AssetExecutionContext, ArtifactStore, Artifact], None] | None = None,
) -> dg.AssetsDefinition:
    """Return an asset by dataset and epoch that a worker makes from each epoch's checkpoint.

    Args:
        family: The family that has it.
        kind: The kind of its artifacts.
        description: What Dagster shows of it.
        kinds: Dagster's tags of technologies.
        task: Returns the worker's task for a store, a dataset and its epochs' checkpoints.
        check: Logs the checks of an artifact that was published.
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

        def emit(artifact: Artifact) -> None:
            context.log_event(materialization_of(artifact))
            if check:
                check(context, artifacts, artifact)

        for dataset, epochs in epochs_by_dataset(context.partition_keys).items():
            checkpoints = required_checkpoints(artifacts, family, dataset, epochs)
            for epoch, artifact in _made_meanwhile(context, artifacts, family, kind, checkpoints):
                context.log.info(f"{artifact.name} was made while this run waited: skipped")
                emit(artifact)
                del checkpoints[epoch]
            if checkpoints:
                worker.run(context, family, task(artifacts, dataset, checkpoints), emit)
        yield from ()

    return per_epoch


def _made_meanwhile(
    context: dg.AssetExecutionContext,
    store: ArtifactStore,
    family: ModelFamily,
    kind: AssetKind,
    checkpoints: Mapping[int, Artifact],
) -> list[tuple[int, Artifact]]:
    """Return what another run has made of the same checkpoints since this run was created.

    A command and the automation sensor may both ask for the scores of an epoch.
    """
    record = context.instance.get_run_record_by_id(context.run_id)
    if record is None:
        return []
    found = []
    for epoch, checkpoint in checkpoints.items():
        dataset = ArtifactAddress.parse(checkpoint.name).dataset
        made = latest(store, kind.address(family.name, dataset, epoch))
        is_new = made and made.manifest.created_at > record.create_timestamp
        if made and is_new and is_score_of(made, checkpoint, kind.code_version(family)):
            found.append((epoch, made))
    return found
