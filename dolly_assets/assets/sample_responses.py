"""sample_responses: the family's prompts, answered by every epoch with the same seeds."""

import dagster as dg

from dolly_assets.dagster_support.per_epoch import build_per_epoch_asset
from dolly_assets.family import ModelFamily
from dolly_assets.registry.kinds import SAMPLE_RESPONSES
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.spec import Sample, ref


def build_sample_responses(family: ModelFamily) -> dg.AssetsDefinition:
    """Return the asset `FAMILY/sample_responses`, by dataset and epoch."""

    def task(_: ArtifactStore, dataset: str, checkpoints: dict[int, Artifact]) -> Sample:
        return Sample(
            dataset=dataset,
            checkpoints={epoch: ref(artifact) for epoch, artifact in checkpoints.items()},
        )

    return build_per_epoch_asset(
        family,
        SAMPLE_RESPONSES,
        description="The same prompts, answered by every epoch with the same seeds.",
        kinds={"pytorch"},
        task=task,
    )
