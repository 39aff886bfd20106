"""champion_model: the best model that a family has of a dataset, defended against each new training.

It begins as the base model. The best epoch of a comparison takes its place if it is better on the
same held-out examples; otherwise the champion stays as it is, digest and all, and the reason is
told.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import dagster as dg

from dolly_assets.core.errors import ArtifactError
from dolly_assets.dagster_support.partitions import DATASETS, GPU_POOL
from dolly_assets.dagster_support.resources import StoreResource, WorkerResource, made_by
from dolly_assets.datasets.licenses import LICENSE_ATTRIBUTES
from dolly_assets.family import ModelFamily
from dolly_assets.registry.attributes import EvaluationAttributes
from dolly_assets.registry.kinds import (
    CHAMPION_EVALUATION,
    CHAMPION_MODEL,
    EPOCH_COMPARISON,
    EVALUATION,
    MODEL_CHECKPOINT,
    TOKENIZED_DATASET,
    AssetKind,
)
from dolly_assets.registry.queries import history, latest, required
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.spec import Evaluate, ref


@dataclass(frozen=True)
class Challenger:
    """A model with its scores on one held-out split."""

    model: Artifact  # a checkpoint, or a champion that was one
    evaluation: Artifact

    @property
    def exact_match(self) -> float | None:
        """Share of answers that are right to the letter, 0 to 1; None where answers are open."""
        return EvaluationAttributes.of(self.evaluation).exact_match

    @property
    def held_out_loss(self) -> float | None:
        """Nats per response token; None if it was not finite."""
        return EvaluationAttributes.of(self.evaluation).held_out_loss

    @property
    def checkpoint(self) -> str:
        """The digest of the checkpoint that it is or was."""
        return str(self.model.manifest.attributes.get("checkpoint", self.model.digest))


class Decision(NamedTuple):
    """What becomes of a candidate, and why."""

    verdict: Literal["promoted", "rejected", "unchanged"]
    reason: str


def decide(candidate: Challenger, champion: Challenger) -> Decision:
    """Compares two models that were scored on the same held-out split.

    Exact match decides where both have it; where it is equal, or answers are open, the held-out
    loss does. A draw leaves things as they are.
    """
    if candidate.checkpoint == champion.checkpoint:
        return Decision("unchanged", "it is the champion already")
    new, old = candidate.exact_match, champion.exact_match
    if new is not None and old is not None and new != old:
        return Decision(_verdict(new > old), f"exact match {new:.3f} against {old:.3f}")
    new, old = candidate.held_out_loss, champion.held_out_loss
    if new is None:
        return Decision("rejected", "its held-out loss is not finite")
    if old is None:
        return Decision("promoted", f"held-out loss {new:.4f}; the champion's is not finite")
    return Decision(_verdict(new < old), f"held-out loss {new:.4f} against {old:.4f}")


def _verdict(is_better: bool) -> Literal["promoted", "rejected"]:
    return "promoted" if is_better else "rejected"


def build_champion_model(family: ModelFamily) -> dg.AssetsDefinition:
    """The asset `FAMILY/champion_model`, by dataset."""

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
        context: dg.AssetExecutionContext, store: StoreResource, worker: WorkerResource
    ) -> Artifact:
        artifacts, dataset = store.open(), context.partition_key
        comparison = required(artifacts, EPOCH_COMPARISON.address(family.name, dataset))
        candidate = _contender(artifacts, family, dataset, comparison, _best_epoch(comparison))
        champion = latest(artifacts, CHAMPION_MODEL.address(family.name, dataset))
        if champion is None:
            incumbent = _contender(artifacts, family, dataset, comparison, 0)
        else:
            incumbent = _scored_again(
                context, artifacts, family, dataset, champion, candidate, worker
            )
        decision = decide(candidate, incumbent)
        return _publish(context, artifacts, family, comparison, candidate, incumbent, decision)

    return champion_model


def _best_epoch(comparison: Artifact) -> int:
    epoch: Any = comparison.manifest.attributes["best_epoch"]
    if epoch is None:
        raise ArtifactError(
            f"{comparison.name} has no scored epoch: materialize evaluation, then epoch_comparison"
        )
    return epoch


def _contender(
    store: ArtifactStore, family: ModelFamily, dataset: str, comparison: Artifact, epoch: int
) -> Challenger:
    """An epoch as the comparison shows it."""

    def shown(kind: AssetKind) -> Artifact:
        name = kind.address(family.name, dataset, epoch).name
        if name not in comparison.manifest.inputs:
            raise ArtifactError(
                f"{comparison.name} does not show {name}: materialize it, then epoch_comparison and champion_model"
            )
        return store.get(name, comparison.manifest.inputs[name])

    return Challenger(shown(MODEL_CHECKPOINT), shown(EVALUATION))


def _scored_again(
    context: dg.AssetExecutionContext,
    store: ArtifactStore,
    family: ModelFamily,
    dataset: str,
    champion: Artifact,
    candidate: Challenger,
    worker: WorkerResource,
) -> Challenger:
    """The champion, scored on the candidate's held-out split: the data may have changed since it won."""
    epoch: Any = champion.manifest.attributes["epoch"]
    split = candidate.evaluation.manifest.inputs["tokenized_dataset"]
    settings = EVALUATION.code_version(family)
    is_it = (champion.digest, champion.manifest.attributes["checkpoint"])
    for kind in (CHAMPION_EVALUATION, EVALUATION):
        for found in history(store, kind.address(family.name, dataset, epoch)):
            inputs = found.manifest.inputs
            is_of_both = (
                inputs["model_checkpoint"] in is_it and inputs["tokenized_dataset"] == split
            )
            if is_of_both and found.manifest.attributes.get("settings") == settings:
                return Challenger(champion, found)
    task = Evaluate(
        dataset=dataset,
        checkpoints={epoch: ref(champion)},
        asset="champion_evaluation",
        tokenized_dataset=ref(
            store.get(TOKENIZED_DATASET.address(family.name, dataset).name, split)
        ),
    )
    [evaluation] = worker.run(context, family, task)
    return Challenger(champion, evaluation)


def _publish(
    context: dg.AssetExecutionContext,
    store: ArtifactStore,
    family: ModelFamily,
    comparison: Artifact,
    candidate: Challenger,
    incumbent: Challenger,
    decision: Decision,
) -> Artifact:
    """Commits whoever won. Files are referred to, not sent; those of resuming are left out."""
    best: Any = candidate.model.manifest.attributes["epoch"]
    winner = candidate if decision.verdict == "promoted" else incumbent
    sentence = f"epoch {best} is {decision.verdict}: {decision.reason}"
    context.log.info(sentence)
    kept, made_from = winner.model.manifest.attributes, winner.model.manifest.inputs
    checkpoint = MODEL_CHECKPOINT.address(
        family.name, context.partition_key, int(str(kept["epoch"]))
    ).name
    return store.commit(
        CHAMPION_MODEL.address(family.name, context.partition_key).name,
        [entry for entry in winner.model.manifest.files if not entry.path.startswith("state/")],
        kind=CHAMPION_MODEL.name,
        inputs={
            **{name: made_from[name] for name in ("base_model", "tokenized_dataset")},
            checkpoint: winner.checkpoint,
            "epoch_comparison": comparison.digest,
        },
        attributes={
            "verdict": decision.verdict,
            "reason": sentence,
            "epoch": kept["epoch"],
            "training": kept["training"],
            "weights_sha256": kept["weights_sha256"],
            "checkpoint": winner.checkpoint,
            "exact_match": winner.exact_match,
            "held_out_loss": winner.held_out_loss,
            "candidate_epoch": best,
            "candidate_exact_match": candidate.exact_match,
            "candidate_held_out_loss": candidate.held_out_loss,
            **{name: kept.get(name) for name in LICENSE_ATTRIBUTES},
        },
        made_by=made_by(context),
    )
