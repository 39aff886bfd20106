"""champion_export: the champion as folders that other programs load, and the check of each.

A family has it if its YAML names formats. The check fails if an export does not answer as the
checkpoint does.
"""

import dagster as dg

from dolly_assets.core.markdown import inline
from dolly_assets.dagster_support.partitions import DATASETS, GPU_POOL
from dolly_assets.dagster_support.resources import StoreResource, WorkerResource
from dolly_assets.family import ModelFamily
from dolly_assets.registry.attributes import ChampionExportAttributes
from dolly_assets.registry.kinds import CHAMPION_EXPORT, CHAMPION_MODEL
from dolly_assets.registry.queries import required
from dolly_assets.storage.artifact import Artifact
from dolly_assets.worker.spec import ExportModel, ref

CHECK = "answers_as_the_checkpoint"


def build_champion_export(family: ModelFamily) -> dg.AssetsDefinition:
    """Return the asset `FAMILY/champion_export`, by dataset."""

    @dg.asset(
        key=CHAMPION_EXPORT.key(family.name),
        deps=CHAMPION_EXPORT.input_keys(family.name),
        partitions_def=DATASETS,
        group_name=family.name,
        kinds={"huggingface"},
        description="The champion in the formats that other programs load.",
        code_version=CHAMPION_EXPORT.code_version(family),
        pool=GPU_POOL,
    )
    def champion_export(
        context: dg.AssetExecutionContext, store: StoreResource, worker: WorkerResource
    ) -> Artifact:
        dataset = context.partition_key
        champion = required(store.open(), CHAMPION_MODEL.address(family.name, dataset))
        task = ExportModel(dataset=dataset, champion=ref(champion))
        [artifact] = worker.run(context, family, task)
        return artifact

    return champion_export


def build_export_check(family: ModelFamily) -> dg.AssetChecksDefinition:
    """Return the check of `FAMILY/champion_export`."""
    key = dg.AssetKey(CHAMPION_EXPORT.key(family.name))

    @dg.asset_check(
        asset=key,
        name=CHECK,
        description="Every export answers as the checkpoint does; a quantized one nearly so.",
        partitions_def=DATASETS,
    )
    def answers_as_the_checkpoint(
        context: dg.AssetCheckExecutionContext, store: StoreResource
    ) -> dg.AssetCheckResult:
        dataset = context.op_execution_context.partition_key
        artifact = required(store.open(), CHAMPION_EXPORT.address(family.name, dataset))
        return dg.AssetCheckResult(
            passed=not failed_formats(artifact),
            severity=dg.AssetCheckSeverity.ERROR,
            description=inline(_description(artifact)),
        )

    return answers_as_the_checkpoint


def failed_formats(artifact: Artifact) -> list[str]:
    """Return the formats whose answers are too far from the checkpoint's."""
    exports = ChampionExportAttributes.of(artifact).exports
    return [name for name, each in exports.items() if not each.passed]


def _description(artifact: Artifact) -> str:
    exports = ChampionExportAttributes.of(artifact).exports
    return "; ".join(
        f"{name}: {agreement.sentence}"
        for name, each in exports.items()
        for agreement in each.agreements
    )
