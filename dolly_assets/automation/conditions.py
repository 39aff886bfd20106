"""When a family's assets materialize by themselves, as Dagster's automation conditions.

Data decides, not events: an asset follows when the data version of an input has changed, so a file
that was downloaded again unchanged sets nothing in motion. It knows asset names and policies; what
a run does is the assets' business.
"""

from typing import Any

import dagster as dg
from dagster._core.event_api import (
    PartitionKeyFilter,  # there is no public door to a check of one partition
)

from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import split_partition

Condition = dg.AutomationCondition
MISSING: Any = Condition.missing()
HANDLED = Condition.newly_requested() | Condition.newly_updated()
IS_NEW = MISSING.newly_true() | (
    MISSING & Condition.initial_evaluation()
)  # also when the sensor is switched on
IS_FREE = ~Condition.in_progress() & ~Condition.any_deps_in_progress()


class IsWarning(dg.AutomationCondition):
    """True for the partitions of a check that found something to warn of; a warning holds nothing up."""

    @property
    def requires_cursor(self) -> bool:
        """It looks at the last evaluation only."""
        return False

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "the check only warns"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """Keeps the candidates whose check warned."""
        candidates = context.candidate_subset
        keys = {
            key for key in candidates.expensively_compute_partition_keys() if _warned(context, key)
        }
        return dg.AutomationResult(
            context, candidates.compute_intersection_with_partition_keys(keys)
        )


def _warned(context: dg.AutomationContext, partition_key: str) -> bool:
    storage = context.asset_graph_view.instance.event_log_storage
    of_partition = PartitionKeyFilter(key=partition_key)
    [record] = storage.get_latest_asset_check_execution_by_key([context.key], of_partition).values()
    event = record.event.dagster_event if record.event else None
    return bool(event and event.asset_check_evaluation_data.severity == dg.AssetCheckSeverity.WARN)


# Step by step: nothing is requested together with an input that is not there yet, nor before its
# checks were made.
BORNE = Condition.check_passed() | (Condition.check_failed() & IsWarning())
HAS_INPUTS = ~Condition.any_deps_match(Condition.missing()) & Condition.all_deps_match(
    Condition.all_checks_match(BORNE, blocking_only=True)
)


class IsFollowed(dg.AutomationCondition):
    """True for the partitions that a family's policy names: of the datasets that it follows, up to a last epoch."""

    def __init__(self, family: ModelFamily, last_epoch: int | None = None) -> None:
        self._family = family
        self._last_epoch = last_epoch

    @property
    def requires_cursor(self) -> bool:
        """It looks at partition keys only."""
        return False

    @property
    def name(self) -> str:
        """What the UI calls it."""
        up_to = "" if self._last_epoch is None else f", up to epoch {self._last_epoch}"
        return f"of a dataset that {self._family.name} follows{up_to}"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """Keeps the candidates that the policy names."""
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
    """The assets with the conditions of the family's policy; a family that follows no dataset has none."""
    if not family.automation.datasets:
        return assets
    conditions = _conditions(family)
    return assets.map_asset_specs(
        lambda spec: spec.replace_attributes(automation_condition=conditions.get(spec.key.path[-1]))
    )


def automation_sensor(*, is_on: bool) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions of all assets."""
    return dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.all(),
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING if is_on else dg.DefaultSensorStatus.STOPPED,
        description="Materializes what follows from new data, as each family's policy says.",
        use_user_code_server=True,  # the conditions are Python of ours
    )


def _conditions(family: ModelFamily) -> dict[str, dg.AutomationCondition]:
    """Asset's name -> when it materializes by itself."""
    followed = IsFollowed(family)
    on_new_inputs = followed & _due(_changed()) & HAS_INPUTS & IS_FREE
    conditions = {
        "base_model": IS_NEW.since(HANDLED) & ~Condition.in_progress(),
        **dict.fromkeys(
            ("tokenized_dataset", "training_plan", "evaluation", "sample_responses"), on_new_inputs
        ),
        # Of ten epochs seven may never be trained: what is missing does not hold these up.
        "training_profile": followed & _new(family, "gpu_profile") & IS_FREE,
        "epoch_comparison": followed & _new(family, "evaluation", "sample_responses") & IS_FREE,
        "champion_model": followed & _new(family, "epoch_comparison") & IS_FREE,
    }
    if family.automation.training != "never":
        last_epoch = family.automation.epochs or family.recipe.epochs
        conditions["model_checkpoint"] = (
            IsFollowed(family, last_epoch) & _let_train(family) & HAS_INPUTS & IS_FREE
        )
    return conditions


def _let_train(family: ModelFamily) -> dg.AutomationCondition:
    """Somebody has approved, or nobody needs to and there is a plan for new data: a plan follows nothing else."""
    by = "training_approval" if family.automation.needs_approval else "training_plan"
    let = Condition.any_deps_match(Condition.newly_updated()).allow(_keys(family, by))
    return (let if family.automation.needs_approval else IS_NEW | let).since(HANDLED)


def _due(changed: dg.AutomationCondition) -> dg.AutomationCondition:
    """Something is new, and no run was started for it yet; a run that failed is not started again by itself."""
    return (IS_NEW | changed).since(HANDLED)


def _new(family: ModelFamily, *assets: str) -> dg.AutomationCondition:
    """One of these inputs has new data, and no run was started for it yet."""
    return _changed(_keys(family, *assets)).since(HANDLED)


def _changed(of: dg.AssetSelection | None = None) -> dg.AutomationCondition:
    """The data version of an input has changed."""
    condition = Condition.any_deps_match(Condition.data_version_changed())
    return (condition.allow(of) if of else condition).with_label("an input has new data")


def _keys(family: ModelFamily, *assets: str) -> dg.AssetSelection:
    return dg.AssetSelection.assets(*[[family.name, asset] for asset in assets])
