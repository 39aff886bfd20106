"""training_plan: whether a training fits, how long it takes and what it costs."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from dolly_assets.core.markdown import inline
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.dagster_support.run_context import made_by
from dolly_assets.family import ModelFamily
from dolly_assets.planning.text import sentence, table_markdown
from dolly_assets.registry.attributes import PlanAttributes
from dolly_assets.registry.estimate import Estimate, Estimator
from dolly_assets.registry.kinds import TRAINING_PLAN
from dolly_assets.registry.training import Training
from dolly_assets.storage.artifact import Artifact, ArtifactStore

PLAN_FILE = "plan.json"
CHECK = "fits"


def build_training_plan(family: ModelFamily) -> dg.AssetsDefinition:
    """Return `FAMILY/training_plan`, by dataset, with a check that stops what cannot fit."""
    key = dg.AssetKey(TRAINING_PLAN.key(family.name))

    @dg.asset(
        key=key,
        ins={kind.name: dg.AssetIn(kind.key(family.name)) for kind in TRAINING_PLAN.inputs},
        partitions_def=DATASETS,
        group_name=family.name,
        description="Memory, disk, time and cost of a training, from formulas or from what earlier "
        "epochs took.",
        code_version=TRAINING_PLAN.code_version(family),
        check_specs=[
            dg.AssetCheckSpec(
                CHECK, asset=key, blocking=True, description="Whether the memory suffices."
            )
        ],
    )
    def training_plan(
        context: dg.AssetExecutionContext,
        store: StoreResource,
        planning: dg.ResourceParam[Estimator],
        base_model: Artifact,
        tokenized_dataset: Artifact,
    ) -> Iterator[dg.Output[Artifact] | dg.AssetCheckResult]:
        training = Training(family, context.partition_key, base_model, tokenized_dataset)
        artifacts = store.open()
        result = planning.estimate(artifacts, training, epochs=family.recipe.epochs)
        context.log.info(result.verdict)
        yield dg.Output(_publish(artifacts, training, result, made_by(context)))
        yield dg.AssetCheckResult(
            check_name=CHECK,
            passed=bool(result.plan.fits),
            severity=dg.AssetCheckSeverity.WARN
            if result.plan.fits is None
            else dg.AssetCheckSeverity.ERROR,
            description=inline(result.verdict),
        )

    return training_plan


def _publish(
    store: ArtifactStore, training: Training, result: Estimate, by: dict[str, str]
) -> Artifact:
    made = result.plan
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PLAN_FILE).write_text(made.model_dump_json(indent=1), encoding="utf-8")
        return store.publish(
            TRAINING_PLAN.address(training.family.name, training.dataset).name,
            Path(folder),
            kind=TRAINING_PLAN.name,
            inputs=training.inputs,
            attributes=PlanAttributes(
                settings=TRAINING_PLAN.code_version(training.family),
                training=training.digest,
                plan=sentence(made),
                verdict=result.verdict,
                needed_bytes=made.needed_bytes,
                hours=made.hours,
                cost_usd=made.cost_usd,
                energy_kwh=made.energy_kwh,
                carbon_kg=made.carbon_kg,
                store_bytes=made.store_bytes,
                operations_per_epoch=made.operations_per_epoch,
                formula_bytes=made.formula_bytes,
                calibrated_by=made.calibrated_by,
                table_markdown=table_markdown(made),
            ).as_json(),
            made_by=by,
        )
