"""When a family's assets are materialized automatically, as Dagster's automation conditions.

Data decides, not events: an asset follows when the data version of an input has changed, so a file
that was downloaded again unchanged triggers nothing. It knows kinds and policies; what a run does
is the assets' business.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from dolly_assets.dagster_support.seams import latest_check_evaluation
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import split_partition
from dolly_assets.registry.kinds import (
    BASE_MODEL,
    CHAMPION_EXPORT,
    CHAMPION_MODEL,
    EPOCH_COMPARISON,
    EVALUATION,
    GPU_PROFILE,
    JUDGEMENT,
    MODEL_CHECKPOINT,
    SAMPLE_RESPONSES,
    SUITE_SCORES,
    TOKENIZED_DATASET,
    TRAINING_APPROVAL,
    TRAINING_PLAN,
    TRAINING_PROFILE,
    AssetKind,
)

Condition = dg.AutomationCondition
MISSING: Any = Condition.missing()
HANDLED = Condition.newly_requested() | Condition.newly_updated()
IS_NEW = MISSING.newly_true() | (
    MISSING & Condition.initial_evaluation()
)  # also when the sensor is switched on
IS_FREE = ~Condition.in_progress() & ~Condition.any_deps_in_progress()


_SCORES_OF_CHECKPOINTS = (EVALUATION, SAMPLE_RESPONSES, SUITE_SCORES)


class IsWarning(dg.AutomationCondition):
    """True for the partitions of a check that warned; a warning delays nothing."""

    @property
    def requires_cursor(self) -> bool:
        """Whether it keeps state; it reads the last evaluation only."""
        return False

    @property
    def name(self) -> str:
        """The name in the UI."""
        return "the check only warns"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """Keep the candidates whose check warned."""
        candidates = context.candidate_subset
        keys = {
            key for key in candidates.expensively_compute_partition_keys() if _warned(context, key)
        }
        return dg.AutomationResult(
            context, candidates.compute_intersection_with_partition_keys(keys)
        )


def _warned(context: dg.AutomationContext, partition_key: str) -> bool:
    instance = context.asset_graph_view.instance
    evaluation = latest_check_evaluation(instance, context.key, partition_key)
    return evaluation is not None and evaluation.severity == dg.AssetCheckSeverity.WARN


# Step by step: nothing is requested together with an input that doesn't exist yet, nor before its
# checks were run.
TOLERATED = Condition.check_passed() | (Condition.check_failed() & IsWarning())
HAS_INPUTS = ~Condition.any_deps_match(Condition.missing()) & Condition.all_deps_match(
    Condition.all_checks_match(TOLERATED, blocking_only=True)
)


class IsFollowed(dg.AutomationCondition):
    """True for the partitions of the datasets that a family follows, up to a last epoch."""

    def __init__(self, family: ModelFamily, last_epoch: int | None = None) -> None:
        self._family = family
        self._last_epoch = last_epoch

    @property
    def requires_cursor(self) -> bool:
        """Whether it keeps state; it reads partition keys only."""
        return False

    @property
    def name(self) -> str:
        """The name in the UI."""
        up_to = "" if self._last_epoch is None else f", up to epoch {self._last_epoch}"
        return f"of a dataset that {self._family.name} follows{up_to}"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """Keep the candidates that the policy names."""
        candidates = context.candidate_subset
        keys = set(filter(self._is_named, candidates.expensively_compute_partition_keys()))
        return dg.AutomationResult(
            context, candidates.compute_intersection_with_partition_keys(keys)
        )

    def _is_named(self, partition_key: str) -> bool:
        dataset, epoch = split_partition(partition_key)
        return self._family.follows(dataset) and (
            self._last_epoch is None or epoch is None or epoch <= self._last_epoch
        )


def with_automation(assets: dg.AssetsDefinition, family: ModelFamily) -> dg.AssetsDefinition:
    """Return the assets with the conditions of the family's policy.

    A family that follows no dataset has none but those by which its epochs are scored.
    """
    conditions = _conditions(family) if family.automation.datasets else {}
    if family.evaluation.automatic:
        conditions = _with_scoring(family, conditions)
    return assets.map_asset_specs(
        lambda spec: spec.replace_attributes(automation_condition=conditions.get(spec.key.path[-1]))
    )


def automation_sensor(*, is_on: bool) -> dg.AutomationConditionSensorDefinition:
    """Return the sensor that evaluates the conditions of all assets."""
    return dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.all(),
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING if is_on else dg.DefaultSensorStatus.STOPPED,
        description="Materializes what follows from new data, as each family's policy says.",
        use_user_code_server=True,  # the conditions are our own Python
    )


def _conditions(family: ModelFamily) -> dict[str, dg.AutomationCondition]:
    """Return when each asset is materialized automatically, by the asset's name."""
    followed = IsFollowed(family)
    optional = _optional_scores(family)
    on_new_inputs = followed & _due(_changed()) & HAS_INPUTS & IS_FREE
    conditions: dict[AssetKind, dg.AutomationCondition] = {
        BASE_MODEL: IS_NEW.since(HANDLED) & ~Condition.in_progress(),
        **dict.fromkeys(
            (TOKENIZED_DATASET, TRAINING_PLAN, *_SCORES_OF_CHECKPOINTS, JUDGEMENT),
            on_new_inputs,
        ),
        # Of ten epochs seven may never be trained: missing partitions don't delay these.
        TRAINING_PROFILE: followed & _new(family, GPU_PROFILE) & IS_FREE,
        EPOCH_COMPARISON: followed
        & _new(family, EVALUATION, SAMPLE_RESPONSES, *optional)
        & IS_FREE,
        CHAMPION_MODEL: followed & _new(family, EPOCH_COMPARISON) & IS_FREE,
        CHAMPION_EXPORT: followed & _new(family, CHAMPION_MODEL) & IS_FREE,
    }
    if family.automation.training != "never":
        last_epoch = family.automation.epochs or family.recipe.epochs
        conditions[MODEL_CHECKPOINT] = (
            IsFollowed(family, last_epoch) & _may_train(family) & HAS_INPUTS & IS_FREE
        )
    return {kind.name: condition for kind, condition in conditions.items()}


def _with_scoring(
    family: ModelFamily, conditions: dict[str, dg.AutomationCondition]
) -> dict[str, dg.AutomationCondition]:
    """Return the conditions with those of scores of epochs that are trained from now on.

    They hold for every dataset and however an epoch was trained. Only new data counts: when the
    sensor is switched on, epochs that nobody scored stay as they are.
    """
    follows: dict[AssetKind, Sequence[AssetKind]] = {
        **dict.fromkeys(_SCORES_OF_CHECKPOINTS, (MODEL_CHECKPOINT,)),
        JUDGEMENT: JUDGEMENT.inputs,
        EPOCH_COMPARISON: (EVALUATION, SAMPLE_RESPONSES, *_optional_scores(family)),
        CHAMPION_MODEL: (EPOCH_COMPARISON,),
        CHAMPION_EXPORT: (CHAMPION_MODEL,),
    }
    scoring = {kind.name: _new(family, *inputs) & IS_FREE for kind, inputs in follows.items()}
    return conditions | {
        name: conditions[name] | condition if name in conditions else condition
        for name, condition in scoring.items()
    }


def _optional_scores(family: ModelFamily) -> list[AssetKind]:
    """Return the scores that not every family has."""
    suites = [SUITE_SCORES] if family.evaluation.suites else []
    return [*suites, *([JUDGEMENT] if family.evaluation.judge else [])]


def _may_train(family: ModelFamily) -> dg.AutomationCondition:
    """Return the condition of a training: it was approved, or there is a plan for new data.

    A plan follows new data alone.
    """
    by = TRAINING_APPROVAL if family.automation.needs_approval else TRAINING_PLAN
    updated = Condition.any_deps_match(Condition.newly_updated()).allow(_keys(family, by))
    return (updated if family.automation.needs_approval else IS_NEW | updated).since(HANDLED)


def _due(changed: dg.AutomationCondition) -> dg.AutomationCondition:
    """Something is new, and no run was started for it yet; a failed run is not started again."""
    return (IS_NEW | changed).since(HANDLED)


def _new(family: ModelFamily, *inputs: AssetKind) -> dg.AutomationCondition:
    """One of these inputs has new data, and no run was started for it yet."""
    return _changed(_keys(family, *inputs)).since(HANDLED)


def _changed(of: dg.AssetSelection | None = None) -> dg.AutomationCondition:
    """Return the condition that the data version of an input has changed."""
    condition = Condition.any_deps_match(Condition.data_version_changed())
    return (condition.allow(of) if of else condition).with_label("an input has new data")


def _keys(family: ModelFamily, *kinds: AssetKind) -> dg.AssetSelection:
    return dg.AssetSelection.assets(*[kind.key(family.name) for kind in kinds])
