"""model_checkpoint and gpu_profile: a fine-tune over a range of epochs, in one run.

Each epoch is materialized as soon as its artifact is in the store, while the next epoch trains; so
the assets are skippable and yield no output of their own.
"""

from collections.abc import Iterator

import dagster as dg

from dolly_assets.assets.epoch_checks import log_evaluations
from dolly_assets.assets.profile_checks import profile_evaluations
from dolly_assets.assets.template_checks import template_evaluations
from dolly_assets.core.errors import ArtifactError
from dolly_assets.dagster_support.events import materialization_of
from dolly_assets.dagster_support.partitions import GPU_POOL, dataset_epochs, epochs_by_dataset
from dolly_assets.dagster_support.resources import StoreResource, WorkerResource
from dolly_assets.dagster_support.run_context import attempts_of
from dolly_assets.datasets.licenses import license_attributes
from dolly_assets.family import ModelFamily
from dolly_assets.registry.estimate import Estimator
from dolly_assets.registry.inputs import is_made_from
from dolly_assets.registry.kinds import (
    GPU_PROFILE,
    MODEL_CHECKPOINT,
    TRAINING_APPROVAL,
    AssetKind,
)
from dolly_assets.registry.published_templates import template_attributes
from dolly_assets.registry.quality_reports import licenses_of, raw_of, require_trainable
from dolly_assets.registry.training import (
    ResumePlan,
    Training,
    plan_resume,
    republish_as_latest,
)
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.spec import Train, ref


class FineTuneConfig(dg.Config):
    """What a run can be configured with besides its epochs."""

    retrain: bool = False  # train also epochs of this training that are already in the store


def build_model_checkpoint(family: ModelFamily) -> dg.AssetsDefinition:
    """Return `FAMILY/model_checkpoint` and `FAMILY/gpu_profile`, by dataset and epoch."""
    approval = (TRAINING_APPROVAL,) if family.automation.needs_approval else ()

    def spec(kind: AssetKind, kinds: set[str], description: str) -> dg.AssetSpec:
        return dg.AssetSpec(
            kind.key(family.name),
            deps=[each.key(family.name) for each in (*kind.inputs, *approval)],
            skippable=True,
            group_name=family.name,
            kinds=kinds,
            description=description,
            code_version=kind.code_version(family),
        )

    @dg.multi_asset(
        name=f"{family.name}__fine_tune",
        specs=[
            spec(
                MODEL_CHECKPOINT,
                {"deepspeed", "pytorch"},
                "Weights and training state at the end of an epoch.",
            ),
            spec(GPU_PROFILE, {"altair"}, "What the devices did during an epoch."),
        ],
        partitions_def=dataset_epochs(family),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=GPU_POOL,
    )
    def fine_tune(
        context: dg.AssetExecutionContext,
        config: FineTuneConfig,
        store: StoreResource,
        planning: dg.ResourceParam[Estimator],
        worker: WorkerResource,
    ) -> Iterator[dg.Output]:
        artifacts, attempts = store.open(), attempts_of(context)

        def emit(artifact: Artifact) -> None:
            context.log_event(materialization_of(artifact))
            if artifact.manifest.kind == GPU_PROFILE.name:
                log_evaluations(context, profile_evaluations(artifacts, artifact))
            else:
                log_evaluations(context, template_evaluations(artifacts, artifact))

        for dataset, epochs in epochs_by_dataset(context.partition_keys).items():
            training = _training(artifacts, family, dataset)
            resume = plan_resume(
                artifacts, training, epochs, retrain=config.retrain, attempts=attempts
            )
            for artifact in resume.published:
                context.log.info(f"{artifact.name} is already in the store: skipped")
                emit(republish_as_latest(artifacts, artifact))
            if resume.stopped:
                context.log.info(f"nothing is trained: {resume.stopped.sentence}")
            if trained := sum(epoch > 0 for epoch in resume.epochs):
                estimate = planning.estimate(artifacts, training, epochs=trained)
                context.log.info(estimate.verdict)
                estimate.refuse_what_cannot_fit()
            if resume.epochs:
                require_trainable(artifacts, family, training.tokenized_dataset)
                task = _task(artifacts, training, resume, planning)
                planning.forget()  # what is trained now calibrates the next estimate
                worker.run(context, family, task, emit)
        yield from ()

    return fine_tune


def _task(
    store: ArtifactStore, training: Training, resume: ResumePlan, planning: Estimator
) -> Train:
    """Return what a worker is to train."""
    licensed = licenses_of(training.family, raw_of(store, training.tokenized_dataset))
    return Train(
        dataset=training.dataset,
        epochs=resume.epochs,
        base_model=ref(training.base_model),
        tokenized_dataset=ref(training.tokenized_dataset),
        resume_from=ref(resume.resume_from) if resume.resume_from else None,
        state=ref(resume.state) if resume.state else None,
        held_out_losses=dict(resume.held_out_losses),
        training=training.digest,
        prices=planning.prices,
        attributes={**license_attributes(licensed), **template_attributes(training.base_model)},
    )


def _training(store: ArtifactStore, family: ModelFamily, dataset: str) -> Training:
    training = Training.newest(store, family, dataset)
    if not is_made_from(training.tokenized_dataset, training.base_model):
        raise ArtifactError(
            f"{training.tokenized_dataset.name} has the token ids of another base model: "
            "materialize it again"
        )
    return training
