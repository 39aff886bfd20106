"""What the store has of a training decides what is trained; the epochs are a few bytes each."""

from dataclasses import replace

import pytest

from dolly_assets.core.errors import ArtifactError, TrainingError
from dolly_assets.core.names import epoch_key
from dolly_assets.dagster_support.partitions import dataset_epochs, epochs_by_dataset, partition_key
from dolly_assets.registry.kinds import BASE_MODEL, EVALUATION
from dolly_assets.registry.queries import (
    comparison_inputs,
    newest_training,
    required,
    required_checkpoints,
    scored_epochs,
)
from dolly_assets.registry.training import ResumePlan, Training, plan_resume
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.training.loop.early_stopping import EarlyStopping, StoppedEarly
from dolly_assets_tests.fixtures.stores import Publish
from dolly_assets_tests.tiny_training import DATASET, tiny_family


@pytest.fixture
def training(publish: Publish) -> Training:
    return Training(
        tiny_family(),
        DATASET,
        publish(["tiny", "base_model"]),
        publish(["tiny", "tokenized_dataset"], DATASET),
    )


def publish_epoch(
    publish: Publish,
    training: Training,
    epoch: int,
    text: str = "",
    *,
    whole: bool = True,
    run: str = "",
    **stated: float,
) -> None:
    inputs = {
        "base_model": training.base_model.digest,
        "tokenized_dataset": training.tokenized_dataset.digest,
    }
    for asset in ("gpu_profile", "model_checkpoint") if whole else ("gpu_profile",):
        publish(
            ["tiny", asset],
            DATASET,
            epoch_key(epoch),
            text=text,
            inputs=inputs,
            made_by={"run_id": run},
            attributes={
                "training": training.digest,
                "epoch": epoch,
                "recipe": training.family.recipe.model_dump(mode="json"),
                **stated,
            },
        )


def test_nothing_there_everything_is_left_from_the_base_model_on(
    store: ArtifactStore, training: Training
) -> None:
    plan = plan_resume(store, training, [0, 1, 2], retrain=False)
    assert (plan.published, plan.epochs, plan.resume_from) == ((), (0, 1, 2), None)


def test_epochs_that_are_there_are_taken_and_the_rest_goes_on_from_the_last_of_them(
    store: ArtifactStore, training: Training, publish: Publish
) -> None:
    for epoch in (0, 1, 2):
        publish_epoch(publish, training, epoch)
    plan = plan_resume(store, training, [1, 2, 3, 4], retrain=False)
    assert [item.name for item in plan.published] == [
        f"tiny/{asset}/{DATASET}/{epoch}"
        for epoch in ("01", "02")
        for asset in ("gpu_profile", "model_checkpoint")
    ]
    assert plan.epochs == (3, 4)
    assert plan.resume_from
    assert plan.resume_from.name == f"tiny/model_checkpoint/{DATASET}/02"


def test_with_everything_there_nothing_is_left(
    store: ArtifactStore, training: Training, publish: Publish
) -> None:
    publish_epoch(publish, training, 1)
    plan = plan_resume(store, training, [1], retrain=False)
    assert len(plan.published) == 2
    assert (plan.epochs, plan.resume_from) == ((), None)


def test_a_profile_whose_checkpoint_never_came_is_no_epoch(
    store: ArtifactStore, training: Training, publish: Publish
) -> None:
    publish_epoch(publish, training, 1)
    publish_epoch(publish, training, 2, whole=False)
    plan = plan_resume(store, training, [1, 2], retrain=False)
    assert plan.epochs == (2,)


def test_an_epoch_behind_a_missing_one_is_trained_again(
    store: ArtifactStore, training: Training, publish: Publish
) -> None:
    """Consecutive epochs train in one go: 2 is missing, so 2 and 3 are left."""
    publish_epoch(publish, training, 1)
    publish_epoch(publish, training, 3)
    assert plan_resume(store, training, [1, 2, 3], retrain=False).epochs == (2, 3)


def test_retraining_uses_the_epoch_before_and_nothing_else(
    store: ArtifactStore, training: Training, publish: Publish
) -> None:
    for epoch in (1, 2, 3):
        publish_epoch(publish, training, epoch)
    plan = plan_resume(store, training, [2, 3], retrain=True)
    assert plan.published == ()
    assert plan.epochs == (2, 3)
    assert plan.resume_from
    assert plan.resume_from.name.endswith("/01")


def test_retraining_goes_on_after_what_earlier_attempts_trained(
    store: ArtifactStore, training: Training, publish: Publish
) -> None:
    for epoch in (1, 2, 3):
        publish_epoch(publish, training, epoch, run="last month")
    publish_epoch(publish, training, 1, text="again", run="killed")

    def left(*attempts: str) -> tuple[int, ...]:
        return plan_resume(store, training, [1, 2, 3], retrain=True, attempts=attempts).epochs

    assert left("new") == (1, 2, 3)
    assert left("killed", "new") == (2, 3)
    plan = plan_resume(store, training, [1, 2, 3], retrain=True, attempts=("killed", "new"))
    assert plan.resume_from
    assert plan.resume_from.manifest.made_by["run_id"] == "killed"


def test_a_gap_is_refused(store: ArtifactStore, training: Training) -> None:
    with pytest.raises(
        TrainingError, match=r"epochs \[1, 3\] have a gap: select a range without one"
    ):
        plan_resume(store, training, [1, 3], retrain=False)


def test_a_missing_predecessor_is_refused_with_what_to_select(
    store: ArtifactStore, training: Training
) -> None:
    with pytest.raises(
        TrainingError, match="continues from epoch 2, which is not in the store"
    ) as raised:
        plan_resume(store, training, [3], retrain=False)
    assert f"dolly train --model tiny --dataset {DATASET} --epochs 1-3" in str(raised.value)


def test_a_predecessor_of_another_training_is_refused_with_what_has_changed(
    store: ArtifactStore, training: Training, publish: Publish
) -> None:
    publish_epoch(publish, training, 1)
    changed_recipe = Training(
        tiny_family(learning_rate=0.5), DATASET, training.base_model, training.tokenized_dataset
    )
    with pytest.raises(
        TrainingError, match=r"\(changed since: recipe\.learning_rate from 0\.001 to 0\.5\)"
    ):
        plan_resume(store, changed_recipe, [2], retrain=False)
    other_base = publish(["tiny", "base_model"], text="other")
    changed_base = Training(training.family, DATASET, other_base, training.tokenized_dataset)
    with pytest.raises(
        TrainingError,
        match=rf"\(changed since: base_model from \w{{8}} to {other_base.digest[:8]}\)",
    ):
        plan_resume(store, changed_base, [2], retrain=False)
    assert plan_resume(store, changed_base, [1], retrain=False).epochs == (1,)


def test_an_older_epoch_of_this_training_is_found_behind_a_newer_one_of_another(
    store: ArtifactStore, training: Training, publish: Publish
) -> None:
    publish_epoch(publish, training, 1)
    other = Training(
        tiny_family(learning_rate=0.5), DATASET, training.base_model, training.tokenized_dataset
    )
    publish_epoch(publish, other, 1, text="other")
    plan = plan_resume(store, training, [1, 2], retrain=False)
    assert plan.epochs == (2,)
    assert plan.resume_from
    assert plan.resume_from.manifest.attributes["training"] == training.digest


def test_more_epochs_in_the_recipe_are_the_same_training(training: Training) -> None:
    longer = Training(
        tiny_family(epochs=9), DATASET, training.base_model, training.tokenized_dataset
    )
    assert longer.digest == training.digest


def test_newest_training_leaves_the_epochs_of_other_trainings_out(
    store: ArtifactStore, training: Training, publish: Publish
) -> None:
    family = training.family
    assert newest_training(store, family, DATASET) == {}
    other = Training(
        tiny_family(learning_rate=0.5), DATASET, training.base_model, training.tokenized_dataset
    )
    for epoch in (0, 1, 2, 3):
        publish_epoch(publish, other, epoch, text="other")
    for epoch in (0, 1):
        publish_epoch(publish, training, epoch)
    found = newest_training(store, family, DATASET)
    assert sorted(found) == [0, 1]
    assert all(item.manifest.attributes["training"] == training.digest for item in found.values())


def test_scores_belong_to_the_checkpoint_they_were_made_from(
    store: ArtifactStore, training: Training, publish: Publish
) -> None:
    publish_epoch(publish, training, 1)
    checkpoint = required_checkpoints(store, training.family, DATASET, [1])[1]
    key = ["tiny", "evaluation"]
    settings = {"settings": EVALUATION.code_version(training.family)}
    publish(key, DATASET, "01", inputs={"model_checkpoint": "0" * 64}, attributes=settings)
    assert scored_epochs(store, training.family, DATASET)[1].artifacts[1:] == []
    inputs = {"model_checkpoint": checkpoint.digest}
    publish(key, DATASET, "01", text="old", inputs=inputs, attributes={"settings": "others"})
    assert scored_epochs(store, training.family, DATASET)[1].artifacts[1:] == []
    score = publish(key, DATASET, "01", text="new", inputs=inputs, attributes=settings)
    found = scored_epochs(store, training.family, DATASET)
    assert comparison_inputs(found) == {
        f"tiny/model_checkpoint/{DATASET}/01": checkpoint.digest,
        f"tiny/evaluation/{DATASET}/01": score.digest,
    }


def test_what_is_missing_is_named_with_its_partition(
    store: ArtifactStore, publish: Publish
) -> None:
    with pytest.raises(
        ArtifactError, match=r"^tiny/base_model is not in the store .*: materialize it first"
    ):
        required(store, BASE_MODEL.address("tiny"))
    publish(["tiny", "model_checkpoint"], DATASET, "01")
    with pytest.raises(
        ArtifactError,
        match=rf"^tiny/model_checkpoint, partition {DATASET}\|02, is not in the store",
    ):
        required_checkpoints(store, tiny_family(), DATASET, [1, 2])


def test_a_runs_partitions_are_sorted_by_dataset_and_epoch() -> None:
    keys = [
        partition_key("b", 2),
        partition_key("a.b-c", 10),
        partition_key("b", 0),
        partition_key("a.b-c", 9),
    ]
    assert epochs_by_dataset(keys) == {"b": [0, 2], "a.b-c": [9, 10]}


def test_the_partitions_of_a_family_are_its_epochs_and_the_base_model() -> None:
    epochs = dataset_epochs(tiny_family(epochs=11)).get_partitions_def_for_dimension("epoch")
    assert list(epochs.get_partition_keys()) == [f"{epoch:02d}" for epoch in range(12)]
    assert str(partition_key("animals", 1)) == "animals|01"


def test_a_training_that_stopped_early_has_nothing_left_until_the_rule_changes(
    store: ArtifactStore, training: Training, publish: Publish
) -> None:
    for epoch, loss in ((1, 1.0), (2, 1.1), (3, 1.2)):
        publish_epoch(publish, training, epoch, held_out_loss=loss)

    def plan(patience: int, *epochs: int) -> ResumePlan:
        recipe = training.family.recipe.model_copy(
            update={"early_stopping": EarlyStopping(patience=patience)}
        )
        family = training.family.model_copy(update={"recipe": recipe})
        return plan_resume(store, replace(training, family=family), epochs, retrain=False)

    stopped = plan(2, 2, 3, 4)
    assert [artifact.name[-2:] for artifact in stopped.published] == ["02", "02", "03", "03"]
    assert (stopped.epochs, stopped.stopped) == ((), StoppedEarly(3, 1, 1.0))
    longer = plan(3, 2, 3, 4)
    assert (longer.epochs, longer.stopped) == ((4,), None)
    assert longer.held_out_losses == {1: 1.0, 2: 1.1, 3: 1.2}
