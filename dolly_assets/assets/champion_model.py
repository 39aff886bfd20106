"""champion_model: the best model of a family on a dataset, defended against each new training.

It starts as the base model. The best epoch of a comparison replaces it if the family's rule finds
it better on the same held-out examples, and not by chance; otherwise the champion stays as it is,
digest included, and the reason is recorded.
"""

from dataclasses import dataclass

import dagster as dg

from dolly_assets.core.errors import ArtifactError
from dolly_assets.dagster_support.partitions import DATASETS, GPU_POOL
from dolly_assets.dagster_support.resources import StoreResource, WorkerResource
from dolly_assets.dagster_support.run_context import made_by
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import (
    ChampionAttributes,
    CheckpointAttributes,
    EvaluationAttributes,
)
from dolly_assets.registry.inputs import inputs_of, required_digest
from dolly_assets.registry.kinds import (
    BASE_MODEL,
    CHAMPION_EVALUATION,
    CHAMPION_MODEL,
    EPOCH_COMPARISON,
    EVALUATION,
    MODEL_CHECKPOINT,
    TOKENIZED_DATASET,
    AssetKind,
)
from dolly_assets.registry.queries import history, latest, required
from dolly_assets.scoring.champion import Contender, Decision, decide
from dolly_assets.scoring.examples import SCORES_FILE
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.spec import Evaluate, ref


@dataclass(frozen=True)
class Challenger:
    """A model with its scores on one held-out split.

    Attributes:
        name: What sentences call it.
        model: A checkpoint, or a champion that was one.
        evaluation: The artifact with its scores.
        checkpoint: The digest of the checkpoint that it is or was.
    """

    name: str
    model: Artifact
    evaluation: Artifact
    checkpoint: str

    @property
    def scores(self) -> EvaluationAttributes:
        """What it scored."""
        return EvaluationAttributes.of(self.evaluation)

    def contender(self) -> Contender:
        """Return it with the scores of each example, which version 0.1 did not keep."""
        table = (
            self.evaluation.read_table(SCORES_FILE) if self.evaluation.holds(SCORES_FILE) else None
        )
        return Contender(self.name, self.checkpoint, table)


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
        context: dg.AssetExecutionContext, store: StoreResource, worker: WorkerResource
    ) -> Artifact:
        artifacts, dataset = store.open(), context.partition_key
        comparison = required(artifacts, EPOCH_COMPARISON.address(family.name, dataset))
        candidates = _candidates(artifacts, family, dataset, comparison)
        champion = latest(artifacts, CHAMPION_MODEL.address(family.name, dataset))
        if champion is None:
            incumbent = _compared(artifacts, family, dataset, comparison, 0)
        else:
            incumbent = _scored_again(
                context, artifacts, family, dataset, champion, candidates[-1], worker
            )
        decision = decide(
            family.champion,
            [each.contender() for each in candidates],
            incumbent.contender(),
            exact=candidates[-1].scores.answers == "exact",
        )
        best = candidates[decision.candidate]
        return _publish(context, artifacts, family, comparison, best, incumbent, decision)

    return champion_model


def _candidates(
    store: ArtifactStore, family: ModelFamily, dataset: str, comparison: Artifact
) -> list[Challenger]:
    """Return the scored epochs that a comparison shows, in order, without the base model."""
    addresses = map(ArtifactAddress.parse, inputs_of(comparison))
    epochs = sorted(
        each.epoch for each in addresses if each.asset == EVALUATION.name and each.epoch
    )
    if not epochs:
        raise ArtifactError(
            f"{comparison.name} has no scored epoch: materialize evaluation, then epoch_comparison"
        )
    return [_compared(store, family, dataset, comparison, epoch) for epoch in epochs]


def _compared(
    store: ArtifactStore, family: ModelFamily, dataset: str, comparison: Artifact, epoch: int
) -> Challenger:
    """Return an epoch as the comparison shows it."""
    shown = inputs_of(comparison)

    def get(kind: AssetKind) -> Artifact:
        name = kind.address(family.name, dataset, epoch).name
        if name not in shown:
            raise ArtifactError(
                f"{comparison.name} does not show {name}: materialize it, then epoch_comparison "
                "and champion_model"
            )
        return store.get(name, shown[name])

    checkpoint = get(MODEL_CHECKPOINT)
    name = f"epoch {epoch}" if epoch else "the base model"
    return Challenger(name, checkpoint, get(EVALUATION), checkpoint.digest)


def _scored_again(
    context: dg.AssetExecutionContext,
    store: ArtifactStore,
    family: ModelFamily,
    dataset: str,
    champion: Artifact,
    candidate: Challenger,
    worker: WorkerResource,
) -> Challenger:
    """Return the champion, scored on the dataset's present split.

    The data may have changed since it won; scores of it on this very split are used again.
    """
    won = ChampionAttributes.of(champion)
    tokenized = TOKENIZED_DATASET.address(family.name, dataset).name
    split = required_digest(candidate.model, TOKENIZED_DATASET)
    checkpoint = MODEL_CHECKPOINT.address(family.name, dataset, won.epoch).name
    same_model = {(champion.name, champion.digest), (checkpoint, won.checkpoint)}
    settings = EVALUATION.code_version(family)
    for kind in (CHAMPION_EVALUATION, EVALUATION):
        for found in history(store, kind.address(family.name, dataset, won.epoch)):
            inputs, scores = inputs_of(found), EvaluationAttributes.of(found)
            is_of_both = bool(same_model & inputs.items()) and inputs.get(tokenized) == split
            if is_of_both and scores.settings == settings and found.holds(SCORES_FILE):
                return Challenger("the champion", champion, found, won.checkpoint)
    task = Evaluate(
        dataset=dataset,
        checkpoints={won.epoch: ref(champion)},
        asset="champion_evaluation",
        tokenized_dataset=ref(store.get(tokenized, split)),
    )
    [evaluation] = worker.run(context, family, task)
    return Challenger("the champion", champion, evaluation, won.checkpoint)


def _publish(
    context: dg.AssetExecutionContext,
    store: ArtifactStore,
    family: ModelFamily,
    comparison: Artifact,
    candidate: Challenger,
    incumbent: Challenger,
    decision: Decision,
) -> Artifact:
    """Commit the winner. Its files are referred to and not sent; training state is left out."""
    dataset = context.partition_key
    winner = candidate if decision.verdict == "promoted" else incumbent
    best = CheckpointAttributes.of(candidate.model).epoch
    context.log.info(decision.reason)
    kept = CheckpointAttributes.of(winner.model)
    return store.commit(
        CHAMPION_MODEL.address(family.name, dataset).name,
        [entry for entry in winner.model.manifest.files if not entry.path.startswith("state/")],
        kind=CHAMPION_MODEL.name,
        inputs={
            **{
                kind.address(family.name, dataset).name: required_digest(winner.model, kind)
                for kind in (BASE_MODEL, TOKENIZED_DATASET)
            },
            MODEL_CHECKPOINT.address(family.name, dataset, kept.epoch).name: winner.checkpoint,
            comparison.name: comparison.digest,
        },
        attributes=ChampionAttributes(
            verdict=decision.verdict,
            reason=decision.reason,
            p_value=decision.gain.p_value if decision.gain else None,
            gain=decision.gain.gain if decision.gain else None,
            epoch=kept.epoch,
            training=kept.training,
            weights_sha256=kept.weights_sha256,
            checkpoint=winner.checkpoint,
            exact_match=winner.scores.exact_match,
            held_out_loss=winner.scores.held_out_loss,
            candidate_epoch=best,
            candidate_exact_match=candidate.scores.exact_match,
            candidate_held_out_loss=candidate.scores.held_out_loss,
            licenses=kept.licenses,
            commercial_use=kept.commercial_use,
            obligations=kept.obligations,
        ).as_json(),
        made_by=made_by(context),
    )
