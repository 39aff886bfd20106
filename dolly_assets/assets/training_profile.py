"""training_profile: one report over all epochs of a training, interrupted attempts included."""

import contextlib
import tempfile
from pathlib import Path

import dagster as dg
from pydantic import ValidationError

from dolly_assets.core.errors import ArtifactError, DollyError
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.report_links import linked_report
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.dagster_support.run_context import made_by
from dolly_assets.family import ModelFamily
from dolly_assets.profiling.analysis.summary import SUMMARY_FILE
from dolly_assets.profiling.analysis.training_summary import Part, TrainingSummary
from dolly_assets.profiling.report import REPORT_FILE
from dolly_assets.profiling.report.training_report import build_training_report
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import TrainingProfileAttributes
from dolly_assets.registry.kinds import TRAINING_PROFILE
from dolly_assets.registry.profiles import profiles_of_newest_training, readable_summary
from dolly_assets.registry.queries import training_of
from dolly_assets.storage.artifact import Artifact, ArtifactStore

TO_THE_ROOT = "../../../../"  # of the report server, from FAMILY/training_profile/DATASET/DIGEST/


def build_training_profile(family: ModelFamily) -> dg.AssetsDefinition:
    """Return the asset `FAMILY/training_profile`, by dataset."""

    @dg.asset(
        key=TRAINING_PROFILE.key(family.name),
        deps=TRAINING_PROFILE.input_keys(family.name),
        partitions_def=DATASETS,
        group_name=family.name,
        kinds={"altair"},
        description="What the whole training took, epoch by epoch: time, speed, energy and cost.",
        code_version=TRAINING_PROFILE.code_version(family),
    )
    def training_profile(context: dg.AssetExecutionContext, store: StoreResource) -> Artifact:
        artifacts, dataset = store.open(), context.partition_key
        profiles = profiles_of_newest_training(artifacts, family, dataset)
        parts = [part for item in profiles.in_order if (part := _part(item))]
        if not parts:
            raise ArtifactError(
                f"no epoch of {family.name} on {dataset} has a profile in the store: train one "
                "first"
            )
        name = TRAINING_PROFILE.address(family.name, dataset).name
        with tempfile.TemporaryDirectory() as folder:
            title = f"{family.name} on {dataset}, epochs {parts[0].epoch} to {parts[-1].epoch}"
            summary = build_training_report(
                title,
                parts,
                Path(folder),
                previous=_previous(artifacts, name, profiles.training),
                cache_dir=Path(store.cache_dir),
            )
            artifact = artifacts.publish(
                name,
                Path(folder),
                kind=TRAINING_PROFILE.name,
                descriptions=TRAINING_PROFILE.descriptions,
                inputs=profiles.inputs,
                attributes=TrainingProfileAttributes.model_validate(
                    {
                        **summary.figures(),
                        "training": profiles.training,
                        "interrupted": profiles.interrupted_digests,
                    }
                ).as_json(),
                made_by=made_by(context),
            )
        context.add_output_metadata(linked_report(artifact))
        return artifact

    return training_profile


def _part(artifact: Artifact) -> Part | None:
    """Return an epoch's part of the report; None if its report cannot be read."""
    summary = readable_summary(artifact)
    epoch = ArtifactAddress.parse(artifact.name).epoch or 0
    return (
        Part(epoch, summary, f"{TO_THE_ROOT}{artifact.name}/{artifact.digest}/{REPORT_FILE}")
        if summary
        else None
    )


def _previous(store: ArtifactStore, name: str, training: str) -> TrainingSummary | None:
    """Return the numbers of the training before this one."""
    for item in store.history(name):
        if training_of(item) != training:
            with contextlib.suppress(DollyError, ValidationError):
                return TrainingSummary.model_validate_json(item.read_bytes(SUMMARY_FILE))
    return None
