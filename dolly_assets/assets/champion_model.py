"""champion_model: the best model of a family on a dataset, defended against each new training.

It starts as the base model. The best epoch of a comparison replaces it if the family's rule finds
it better on the same held-out examples, and not by chance; otherwise the champion stays as it is,
digest included, and the reason is recorded. Where the rule wants an approval, the epoch becomes the
candidate, and a run with `approve` promotes it.
"""

import tempfile
from pathlib import Path

import dagster as dg

from dolly_assets.assets.contest import Challenger, Contest, contest_of
from dolly_assets.dagster_support.partitions import DATASETS, GPU_POOL
from dolly_assets.dagster_support.report_links import playground_link
from dolly_assets.dagster_support.resources import StoreResource, WorkerResource
from dolly_assets.dagster_support.run_context import made_by, user_of
from dolly_assets.family import ModelFamily
from dolly_assets.registry.attributes import CheckpointAttributes
from dolly_assets.registry.kinds import CHAMPION_MODEL, DECISION_FILE
from dolly_assets.registry.promotion import Author, place, promote
from dolly_assets.registry.stages import Stage, model_in, withdrawn_from
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.manifest import FileEntry


class ChampionConfig(dg.Config):
    """What a run can be configured with: the approval of a candidate, instead of a contest."""

    approve: bool = False  # promote the candidate
    reason: str = ""  # why, for the history


def build_champion_model(family: ModelFamily) -> dg.AssetsDefinition:
    """Return the asset `FAMILY/champion_model`, by dataset."""

    @dg.asset(
        key=CHAMPION_MODEL.key(family.name),
        deps=CHAMPION_MODEL.input_keys(family.name),
        partitions_def=DATASETS,
        group_name=family.name,
        kinds={"pytorch"},
        description="The best model so far; a new training's best epoch is promoted or rejected.",
        code_version=CHAMPION_MODEL.code_version(family),
        pool=GPU_POOL,
    )
    def champion_model(
        context: dg.AssetExecutionContext,
        config: ChampionConfig,
        store: StoreResource,
        worker: WorkerResource,
    ) -> Artifact:
        artifacts, dataset = store.open(), context.partition_key
        context.add_output_metadata(playground_link(family.name, dataset))
        if config.approve:
            author = Author(user_of(context), config.reason, made_by(context))
            return promote(artifacts, family, dataset, to="production", author=author)
        while True:
            contest = contest_of(context, artifacts, family, dataset, worker)
            with artifacts.deciding() as lease:
                if _record(contest.champion) == _record(
                    model_in(artifacts, family.name, dataset, "production")
                ):
                    lease.check()
                    return _publish(context, artifacts, family, dataset, contest)
            context.log.info("the champion was replaced meanwhile: the contest is held again")

    return champion_model


def _record(champion: Artifact | None) -> str | None:
    return champion.uri if champion else None


def _publish(
    context: dg.AssetExecutionContext,
    store: ArtifactStore,
    family: ModelFamily,
    dataset: str,
    contest: Contest,
) -> Artifact:
    """Publish the winner, after the candidate that a rule found better."""
    decision, incumbent = contest.decision, contest.incumbent
    candidate = contest.candidates[decision.candidate]
    decided = {
        "verdict": decision.verdict,
        "reason": decision.reason,
        "decided_by": "rule",
        "withdrawn": withdrawn_from(contest.champion),
        "decision_markdown": contest.table_markdown(),
        "p_value": decision.gain.p_value if decision.gain else None,
        "gain": decision.gain.gain if decision.gain else None,
        "candidate_epoch": CheckpointAttributes.of(candidate.model).epoch,
        "candidate_exact_match": candidate.scores.exact_match,
        "candidate_held_out_loss": candidate.scores.held_out_loss,
    }

    document = _uploaded(store, contest.document(family.champion))

    def published(stage: Stage, model: Challenger) -> Artifact:
        scores = {
            "exact_match": model.scores.exact_match,
            "held_out_loss": model.scores.held_out_loss,
        }
        return place(
            store,
            family.name,
            dataset,
            stage,
            model.model,
            {**decided, **scores},
            made_by(context),
            comparison=contest.comparison,
            beside=document,
        )

    if decision.verdict in ("promoted", "awaiting approval"):
        published("candidate", candidate)
    return published("production", candidate if decision.verdict == "promoted" else incumbent)


def _uploaded(store: ArtifactStore, document: str) -> tuple[FileEntry, ...]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / DECISION_FILE).write_text(document, encoding="utf-8")
        return store.upload(Path(folder), descriptions=CHAMPION_MODEL.descriptions)
