"""training_profile: one report over all epochs of a training, the tries that were cut among them."""

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from pydantic import JsonValue, ValidationError

from dolly_assets.assets.epoch_comparison import newest_training
from dolly_assets.core.errors import ArtifactError, DollyError
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.report_links import linked_report
from dolly_assets.dagster_support.resources import StoreResource, made_by
from dolly_assets.family import ModelFamily
from dolly_assets.profiling.analysis.summary import SUMMARY_FILE, ReportSummary
from dolly_assets.profiling.analysis.training_summary import Part, TrainingSummary
from dolly_assets.profiling.report.report import REPORT_FILE
from dolly_assets.profiling.report.training_report import build_training_report
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import GPU_PROFILE, INTERRUPTED_PROFILE, TRAINING_PROFILE
from dolly_assets.registry.queries import history
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.profiles.profile_publisher import summary_of

TO_THE_ROOT = "../../../../"  # of the report server, from FAMILY/training_profile/DATASET/DIGEST/


def build_training_profile(family: ModelFamily) -> dg.AssetsDefinition:
    """The asset `FAMILY/training_profile`, by dataset."""

    @dg.asset(
        key=TRAINING_PROFILE.key(family.name),
        deps=TRAINING_PROFILE.input_keys(family.name),
        partitions_def=DATASETS,
        group_name=family.name,
        kinds={"altair"},
        description="What the whole training took, epoch by epoch: time, speed, energy and money.",
        code_version=TRAINING_PROFILE.code_version(family),
    )
    def training_profile(context: dg.AssetExecutionContext, store: StoreResource) -> Artifact:
        artifacts, dataset = store.open(), context.partition_key
        profiles = profiles_of_newest_training(artifacts, family, dataset)
        parts = [part for item in profiles.in_order if (part := _part(item))]
        if not parts:
            raise ArtifactError(
                f"no epoch of {family.name} on {dataset} has a profile in the store: train one first"
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
                inputs=profiles.inputs,
                attributes={
                    **summary.figures(),
                    "training": profiles.training,
                    "cut": profiles.cut_digests,
                },
                made_by=made_by(context),
            )
        context.add_output_metadata(linked_report(artifact))
        return artifact

    return training_profile


@dataclass(frozen=True)
class TrainingProfiles:
    """The profiles of one training.

    Attributes:
        whole: Those of its epochs.
        cut: Those of tries that were cut, which the epochs went on from, or that nothing went on
            from yet.
    """

    training: str
    whole: list[Artifact]
    cut: list[Artifact]

    @property
    def inputs(self) -> dict[str, str]:
        """The epochs' profiles, by name -> digest."""
        return {item.name: item.digest for item in self.whole}

    @property
    def cut_digests(self) -> list[JsonValue]:
        """Several tries at an epoch have one name, so these are beside the inputs."""
        return [item.digest for item in self.cut]

    @property
    def in_order(self) -> list[Artifact]:
        """All of them, the oldest first."""
        return sorted([*self.whole, *self.cut], key=lambda item: item.manifest.created_at)


def profiles_of_newest_training(
    store: ArtifactStore, family: ModelFamily, dataset: str
) -> TrainingProfiles:
    """The profiles of the training that published one last; other trainings' are left out."""
    whole = newest_training(store, family, dataset, GPU_PROFILE, first_epoch=1)
    if not whole:
        return TrainingProfiles("", [], [])
    training = _training_of(next(iter(whole.values())))
    cut = [
        item
        for epoch in range(1, family.recipe.epochs + 1)
        for item in history(store, INTERRUPTED_PROFILE.address(family.name, dataset, epoch))
        if _training_of(item) == training and _belongs(item, whole.get(epoch))
    ]
    return TrainingProfiles(training, list(whole.values()), cut)


def _belongs(cut: Artifact, whole: Artifact | None) -> bool:
    """Whether an epoch went on from a try, or is yet to."""
    if whole is None or cut.manifest.created_at > whole.manifest.created_at:
        return True
    cut_summary, whole_summary = _summary(cut), _summary(whole)
    if not cut_summary or not whole_summary:
        return False
    return any(attempt.started_at == cut_summary.started_at for attempt in whole_summary.attempts)


def _training_of(artifact: Artifact) -> str:
    return str(artifact.manifest.attributes.get("training"))


def _part(artifact: Artifact) -> Part | None:
    summary = _summary(artifact)
    epoch = ArtifactAddress.parse(artifact.name).epoch or 0
    return (
        Part(epoch, summary, f"{TO_THE_ROOT}{artifact.name}/{artifact.digest}/{REPORT_FILE}")
        if summary
        else None
    )


def _summary(artifact: Artifact) -> ReportSummary | None:
    """None where the report could not be built, or was by another version."""
    with contextlib.suppress(DollyError):
        return summary_of(artifact)
    return None


def _previous(store: ArtifactStore, name: str, training: str) -> TrainingSummary | None:
    """The numbers of the training before this one."""
    for item in store.history(name):
        if _training_of(item) != training:
            with contextlib.suppress(DollyError, ValidationError):
                return TrainingSummary.model_validate_json(item.read_bytes(SUMMARY_FILE))
    return None
