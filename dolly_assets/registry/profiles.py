"""The profiles of a training in the store: those of whole epochs, and those of interrupted ones.

It knows which belong together, and nothing of how they are built.
"""

import contextlib
from dataclasses import dataclass

from dolly_assets.core.errors import DollyError
from dolly_assets.family import ModelFamily
from dolly_assets.profiling.analysis.summary import SUMMARY_FILE, ReportSummary
from dolly_assets.registry.inputs import as_inputs
from dolly_assets.registry.kinds import GPU_PROFILE, INTERRUPTED_PROFILE
from dolly_assets.registry.queries import history, newest_training, training_of
from dolly_assets.storage.artifact import Artifact, ArtifactStore


@dataclass(frozen=True)
class TrainingProfiles:
    """The profiles of one training.

    Attributes:
        training: The digest of the training; empty where there is none.
        whole: The profiles of its epochs.
        interrupted: Those of interrupted attempts from which an epoch resumed, or from which none
            has resumed yet.
    """

    training: str
    whole: list[Artifact]
    interrupted: list[Artifact]

    @property
    def inputs(self) -> dict[str, str]:
        """The epochs' profiles as the inputs of a report over all of them."""
        return as_inputs(*self.whole)

    @property
    def interrupted_digests(self) -> list[str]:
        """The digests of the interrupted ones: several have one name, so they are no inputs."""
        return [item.digest for item in self.interrupted]

    @property
    def in_order(self) -> list[Artifact]:
        """All of them, the oldest first."""
        return sorted([*self.whole, *self.interrupted], key=lambda item: item.manifest.created_at)


def profiles_of_newest_training(
    store: ArtifactStore, family: ModelFamily, dataset: str
) -> TrainingProfiles:
    """Return the profiles of the training that published last; other trainings' are left out."""
    whole = newest_training(store, family, dataset, GPU_PROFILE, first_epoch=1)
    if not whole:
        return TrainingProfiles("", [], [])
    training = training_of(next(iter(whole.values())))
    interrupted = [
        item
        for epoch in range(1, family.recipe.epochs + 1)
        for item in history(store, INTERRUPTED_PROFILE.address(family.name, dataset, epoch))
        if training_of(item) == training and _belongs(item, whole.get(epoch))
    ]
    return TrainingProfiles(training or "", list(whole.values()), interrupted)


def summary_of(profile: Artifact) -> ReportSummary:
    """Return the numbers of a profile.

    Raises:
        DollyError: It has none, or they are of another version or damaged.
    """
    return ReportSummary.read(profile.local_file(SUMMARY_FILE).parent)


def readable_summary(profile: Artifact) -> ReportSummary | None:
    """Return the numbers of a profile; None if no report could be built, or by another version."""
    with contextlib.suppress(DollyError):
        return summary_of(profile)
    return None


def _belongs(interrupted: Artifact, whole: Artifact | None) -> bool:
    """Whether an epoch resumed from an interrupted attempt, or is yet to."""
    if whole is None or interrupted.manifest.created_at > whole.manifest.created_at:
        return True
    before, after = readable_summary(interrupted), readable_summary(whole)
    if not before or not after:
        return False
    return any(attempt.started_at == before.started_at for attempt in after.attempts)
