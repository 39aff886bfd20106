"""The policy of a family, as the automation sensor carries it out."""

from collections.abc import Callable, Iterable

import dagster as dg
import pytest

from dolly_assets_tests.automation.automated import Automated
from dolly_assets_tests.home import TINY_FAMILY

pytestmark = pytest.mark.slow

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

AUTOMATIC = "{datasets: ['support*'], training: automatic, epochs: 2}"
EPOCHS = {"support|00", "support|01", "support|02"}

Make = Callable[..., Automated]


def until_planned(
    automated: Automated, datasets: Iterable[str] = ("support",), data: str = "a"
) -> None:
    """What happens until a dataset is tokenized and planned."""
    automated.add_datasets(*datasets)
    automated.tick()
    automated.materialized("tiny/base_model", None, "base")
    for dataset in datasets:
        automated.materialized("raw_dataset", dataset, data)
    requested = automated.tick()
    assert requested["tiny/tokenized_dataset"] == set(datasets)
    for dataset in datasets:
        automated.materialized("tiny/tokenized_dataset", dataset, f"tokens of {data}")
    assert automated.tick() == {"tiny/training_plan": set(datasets)}
    for dataset in datasets:
        automated.materialized("tiny/training_plan", dataset, f"plan for {data}")


def until_trained(automated: Automated) -> None:
    until_planned(automated)
    assert automated.tick()["tiny/model_checkpoint"] == EPOCHS
    for epoch in EPOCHS:
        automated.materialized("tiny/model_checkpoint", epoch, f"weights of {epoch}")
        automated.materialized("tiny/gpu_profile", epoch, f"profile of {epoch}")


def test_a_base_model_is_prepared_for_a_family_that_follows_datasets_only(automated: Make) -> None:
    requested = automated(AUTOMATIC).tick()
    assert set(requested) == {"tiny/base_model", "demo/base_model"}


def test_new_data_is_tokenized_and_trained_on_up_to_the_policys_epoch(automated: Make) -> None:
    location = automated(AUTOMATIC)
    until_trained(location)
    assert not location.tick().get("tiny/model_checkpoint")


def test_a_dataset_that_the_policy_does_not_name_is_left_alone(automated: Make) -> None:
    location = automated(AUTOMATIC)
    location.add_datasets("support", "other")
    location.tick()
    location.materialized("tiny/base_model", None, "base")
    location.materialized("raw_dataset", "other", "a")
    assert not location.tick()


def test_checkpoints_are_scored_compared_and_become_champion(automated: Make) -> None:
    location = automated(AUTOMATIC)
    until_trained(location)
    assert location.tick() == {
        "tiny/evaluation": EPOCHS,
        "tiny/sample_responses": EPOCHS,
        "tiny/training_profile": {"support"},
    }
    location.materialized("tiny/training_profile", "support", "profile")
    for asset in ("evaluation", "sample_responses"):
        for epoch in EPOCHS:
            location.materialized(f"tiny/{asset}", epoch, f"{asset} of {epoch}")
    assert location.tick() == {"tiny/epoch_comparison": {"support"}}
    location.materialized("tiny/epoch_comparison", "support", "comparison")
    assert location.tick() == {"tiny/champion_model": {"support"}}


def test_the_same_data_again_sets_nothing_in_motion(automated: Make) -> None:
    location = automated(AUTOMATIC)
    until_trained(location)
    location.tick()
    location.materialized("raw_dataset", "support", "a")
    assert not location.tick()


def test_changed_data_moves_exactly_what_follows_from_it(automated: Make) -> None:
    location = automated(AUTOMATIC)
    until_planned(location, ["support", "support_b"])
    location.tick()
    location.materialized("raw_dataset", "support", "b")
    assert location.tick() == {"tiny/tokenized_dataset": {"support"}}
    location.materialized("tiny/tokenized_dataset", "support", "tokens of b")
    assert location.tick() == {"tiny/training_plan": {"support"}}
    location.materialized("tiny/training_plan", "support", "plan for b")
    assert location.tick()["tiny/model_checkpoint"] == EPOCHS


def test_training_waits_for_an_approval_where_the_policy_asks_for_one(automated: Make) -> None:
    location = automated("{datasets: [support], training: after_approval, epochs: 2}")
    until_planned(location)
    assert not location.tick().get("tiny/model_checkpoint")
    location.materialized("tiny/training_approval", "support", "yes")
    assert location.tick()["tiny/model_checkpoint"] == EPOCHS


def test_training_is_left_to_people_by_default(automated: Make) -> None:
    location = automated("{datasets: [support]}")
    until_planned(location)
    assert not location.tick().get("tiny/model_checkpoint")


@pytest.mark.parametrize(("severity", "goes_on"), [(ERROR, False), (WARN, True)])
def test_a_finding_that_stops_training_holds_up_what_follows(
    automated: Make, severity: dg.AssetCheckSeverity, goes_on: bool
) -> None:
    location = automated(AUTOMATIC)
    location.add_datasets("support")
    location.tick()
    location.materialized("tiny/base_model", None, "base")
    location.materialized("raw_dataset", "support", "a", finding=severity)
    assert bool(location.tick()) == goes_on


def test_epochs_trained_by_hand_are_scored_in_a_family_that_follows_no_dataset(
    automated: Make,
) -> None:
    location = automated("{}")
    location.add_datasets("support")
    location.materialized("tiny/model_checkpoint", "support|00", "weights of an earlier time")
    assert set(location.tick()) == {"demo/base_model"}  # the sensor was switched on later
    location.materialized("tiny/model_checkpoint", "support|01", "weights")
    scored = {"tiny/evaluation": {"support|01"}, "tiny/sample_responses": {"support|01"}}
    assert location.tick() == scored
    for asset in ("evaluation", "sample_responses"):
        location.materialized(f"tiny/{asset}", "support|01", asset)
    assert location.tick() == {"tiny/epoch_comparison": {"support"}}
    location.materialized("tiny/epoch_comparison", "support", "comparison")
    assert location.tick() == {"tiny/champion_model": {"support"}}


def test_a_family_can_leave_scoring_to_people(automated: Make) -> None:
    location = automated(
        "{}", TINY_FAMILY.replace("evaluation: {", "evaluation: {automatic: false, ")
    )
    location.add_datasets("support")
    location.tick()
    location.materialized("tiny/model_checkpoint", "support|01", "weights")
    assert not location.tick()
