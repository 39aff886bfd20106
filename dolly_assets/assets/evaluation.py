"""evaluation: held-out loss, perplexity and, where answers can be checked, exact match."""

import dagster as dg

from dolly_assets.assets.epoch_checks import log_evaluations
from dolly_assets.assets.score_checks import score_evaluations
from dolly_assets.dagster_support.per_epoch import build_per_epoch_asset
from dolly_assets.family import ModelFamily
from dolly_assets.registry.kinds import EVALUATION
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.spec import Evaluate, ref


def build_evaluation(family: ModelFamily) -> dg.AssetsDefinition:
    """Return the asset `FAMILY/evaluation`, by dataset and epoch."""

    def task(_: ArtifactStore, dataset: str, checkpoints: dict[int, Artifact]) -> Evaluate:
        return Evaluate(
            dataset=dataset,
            checkpoints={epoch: ref(artifact) for epoch, artifact in checkpoints.items()},
        )

    return build_per_epoch_asset(
        family,
        EVALUATION,
        description="Held-out loss, perplexity and, where answers can be checked, exact match.",
        kinds={"pytorch"},
        task=task,
        check=lambda context, store, evaluation: log_evaluations(
            context, score_evaluations(store, family, evaluation)
        ),
    )
