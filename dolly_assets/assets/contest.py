"""The contest behind a champion: the epochs of a comparison against the champion, by the rule.

It reads what was scored, and has the champion scored again where the data has changed since it won.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import dagster as dg

from dolly_assets.core.errors import ArtifactError
from dolly_assets.dagster_support.resources import WorkerResource
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import ChampionAttributes, EvaluationAttributes
from dolly_assets.registry.gates import failed_gates
from dolly_assets.registry.inputs import inputs_of, required_digest
from dolly_assets.registry.kinds import (
    CHAMPION_EVALUATION,
    EPOCH_COMPARISON,
    EVALUATION,
    MODEL_CHECKPOINT,
    TOKENIZED_DATASET,
    AssetKind,
)
from dolly_assets.registry.queries import history, required
from dolly_assets.registry.stages import model_in, name_of, withdrawn_from
from dolly_assets.registry.suite_losses import lost_on_suites
from dolly_assets.scoring.alternatives import Alternative, alternatives, alternatives_markdown
from dolly_assets.scoring.champion import Decision, decide
from dolly_assets.scoring.contender import Contender
from dolly_assets.scoring.examples import SCORES_FILE, Score
from dolly_assets.scoring.intervals import Interval
from dolly_assets.scoring.rule import ChampionRule, ScoreName
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.spec import Evaluate, ref

_WITHDRAWN = "it was rolled back, and only a person can promote it again"


@dataclass(frozen=True)
class Challenger:
    """A model with its scores on one held-out split.

    Attributes:
        name: What sentences call it.
        model: A checkpoint, or a champion that was one.
        evaluation: The artifact with its scores.
        checkpoint: The digest of the checkpoint that it is or was.
        barred: Why it may not be promoted, whatever it scored; empty if it may.
    """

    name: str
    model: Artifact
    evaluation: Artifact
    checkpoint: str
    barred: str = ""

    @property
    def scores(self) -> EvaluationAttributes:
        """What it scored."""
        return EvaluationAttributes.of(self.evaluation)

    def contender(self) -> Contender:
        """Return it with the scores of each example, which version 0.1 did not keep."""
        table = (
            self.evaluation.read_table(SCORES_FILE) if self.evaluation.holds(SCORES_FILE) else None
        )
        found, interval = self.scores.memorization, self.scores.memorization_interval
        remembered = Score(found, Interval(*interval) if interval else None)
        return Contender(self.name, self.checkpoint, table, self.barred, remembered)


@dataclass(frozen=True)
class Contest:
    """The epochs of a comparison against the champion, and what came of it.

    Attributes:
        comparison: The comparison that shows the epochs.
        champion: The champion as it was published; None before the first one.
        candidates: The epochs.
        incumbent: The champion with its scores, or the base model.
        decision: The verdict.
        score: The score that decided.
        alternatives: What the verdict was chosen from.
    """

    comparison: Artifact
    champion: Artifact | None
    candidates: list[Challenger]
    incumbent: Challenger
    decision: Decision
    score: ScoreName
    alternatives: list[Alternative]

    def table_markdown(self) -> str:
        """Return what the verdict was chosen from, as Markdown."""
        return alternatives_markdown(self.score, self.alternatives)

    def document(self, rule: ChampionRule) -> str:
        """Return the verdict, the rule and what it was chosen from, as JSON."""
        document = {
            "verdict": self.decision.verdict,
            "reason": self.decision.reason,
            "rule": rule.model_dump(mode="json"),
            "score": self.score,
            "alternatives": [line.as_json() for line in self.alternatives],
        }
        return json.dumps(document, indent=1)


def contest_of(
    context: dg.AssetExecutionContext,
    store: ArtifactStore,
    family: ModelFamily,
    dataset: str,
    worker: WorkerResource,
) -> Contest:
    """Hold the contest of the newest comparison."""
    comparison = required(store, EPOCH_COMPARISON.address(family.name, dataset))
    champion = model_in(store, family.name, dataset, "production")
    candidates = _candidates(store, family, dataset, comparison, withdrawn_from(champion))
    if champion is None:
        incumbent = _compared(store, family, dataset, comparison, 0)
    else:
        incumbent = _scored_again(context, store, family, dataset, champion, candidates[-1], worker)
    exact = candidates[-1].scores.answers == "exact"
    contenders, defender = [each.contender() for each in candidates], incumbent.contender()
    decision = decide(
        family.champion,
        contenders,
        defender,
        exact=exact,
        gates=lambda place: [
            *failed_gates(store, family, candidates[place].model, candidates[place].evaluation),
            *lost_on_suites(store, family, dataset, candidates[place].model, incumbent.model),
        ],
    )
    context.log.info(decision.reason)
    score = family.champion.score_of(exact=exact)
    lines = alternatives(score, contenders, defender)
    return Contest(comparison, champion, candidates, incumbent, decision, score, lines)


def _candidates(
    store: ArtifactStore,
    family: ModelFamily,
    dataset: str,
    comparison: Artifact,
    withdrawn: Sequence[str],
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
    found = [_compared(store, family, dataset, comparison, epoch) for epoch in epochs]
    return [
        replace(each, barred=_WITHDRAWN) if each.checkpoint in withdrawn else each for each in found
    ]


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
    return Challenger(name_of(checkpoint), checkpoint, get(EVALUATION), checkpoint.digest)


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
