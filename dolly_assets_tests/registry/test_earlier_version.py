"""A home that version 0.1.0 wrote: it is read, nothing in it is made again, and training resumes.

`fixtures/home_0_1_0.tar.xz` holds its store, its Dagster instance and the family `tiny` with two
trained epochs. Garbage collection has deleted weights and training state of the first one.
"""

import json
import tarfile
from pathlib import Path

import pytest

from dolly_assets.core.environment import Environment
from dolly_assets.pipeline.session import Session
from dolly_assets.registry.attributes import EvaluationAttributes, TrainingProfileAttributes
from dolly_assets.registry.currency import is_current
from dolly_assets.registry.inputs import inputs_of
from dolly_assets.registry.kinds import (
    EVALUATION,
    FAMILY_ASSETS,
    KINDS,
    MODEL_CHECKPOINT,
    RAW_DATASET,
    TRAINING_PROFILE,
    Partitioning,
)
from dolly_assets.registry.queries import latest, required
from dolly_assets_tests.home import Home
from dolly_assets_tests.in_process import dolly

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "home_0_1_0.tar.xz"
EPOCHS = (0, 1, 2)


@pytest.fixture
def old_home(tmp_path: Path) -> Home:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return Home(tmp_path)


@pytest.fixture
def session(old_home: Home) -> Session:
    return Session(Environment.read(old_home.variables))


def test_status_reads_scores_by_their_new_name_and_keeps_the_former(old_home: Home) -> None:
    rows = json.loads(dolly(old_home.variables, "status", "--json").stdout)
    trained = [row for row in rows if row["digest"]]
    assert [(row["family"], row["dataset"], row["epoch"]) for row in trained] == [
        ("tiny", "animals", epoch) for epoch in EPOCHS
    ]
    for row in trained:
        assert 0 < row["held_out_loss"] < 20
        assert row["heldout_loss"] == row["held_out_loss"]


def test_the_attributes_of_every_artifact_are_read(session: Session) -> None:
    names = session.store.names()
    assert len(names) > 15
    for name in names:
        artifact = session.store.latest(name)
        assert artifact
        KINDS[artifact.manifest.kind].attributes.of(artifact)
    evaluation = required(session.store, EVALUATION.address("tiny", "animals", 2))
    assert "heldout_examples" in evaluation.manifest.attributes
    assert EvaluationAttributes.of(evaluation).held_out_examples == 8
    profile = required(session.store, TRAINING_PROFILE.address("tiny", "animals"))
    assert TrainingProfileAttributes.of(profile).interrupted == []


def test_every_input_is_found_by_its_full_name(session: Session) -> None:
    for name in session.store.names():
        artifact = session.store.latest(name)
        assert artifact
        for input_name, digest in inputs_of(artifact).items():
            assert session.store.get(input_name, digest).digest == digest, name
    second = required(session.store, MODEL_CHECKPOINT.address("tiny", "animals", 2))
    assert inputs_of(second).keys() == {
        "tiny/base_model",
        "tiny/tokenized_dataset/animals",
        "tiny/model_checkpoint/animals/01",
    }


@pytest.mark.parametrize(
    "name", ["tiny/model_checkpoint/animals/02", "tiny/champion_model/animals"]
)
def test_lineage_leads_back_to_the_raw_dataset(old_home: Home, name: str) -> None:
    found = json.loads(dolly(old_home.variables, "lineage", name, "--json").stdout)
    assert found["records"]["dataset"] == "animals"
    inputs = [each for item in found["made_from"] for each in item["inputs"].values()]
    assert [each for each in inputs if each.startswith("raw_dataset/animals@")]
    assert not [each for each in inputs if "@" not in each]  # a digest that was not found


def test_everything_is_intact(old_home: Home) -> None:
    result = dolly(old_home.variables, "verify")
    assert result.exit_code == 0, result.stdout
    assert " 0 damaged files" in result.stdout


def test_everything_is_current(session: Session) -> None:
    family = session.family("tiny")
    checked = 0
    for kind in FAMILY_ASSETS:
        for epoch in EPOCHS if kind.partitioning is Partitioning.EPOCH else (None,):
            if artifact := latest(session.store, kind.address("tiny", "animals", epoch)):
                assert is_current(session.store, family, artifact), artifact.name
                checked += 1
    assert checked == 6 + 4 * len(EPOCHS)


def test_nothing_is_done_again(old_home: Home) -> None:
    result = dolly(
        old_home.variables, *("train", "--model", "tiny", "--dataset", "animals"), "--epochs", "1-2"
    )
    assert result.exit_code == 0, result.output
    assert "nothing to do: everything is up to date" in result.output


@pytest.mark.slow
def test_training_resumes_and_the_new_epoch_names_its_inputs_in_full(
    old_home: Home, session: Session
) -> None:
    before = old_home.status()
    old_home.dolly("train", "--model", "tiny", "--dataset", "animals", "--epochs", "3")
    after = old_home.status()
    assert {epoch: after[epoch] for epoch in EPOCHS} == {epoch: before[epoch] for epoch in EPOCHS}
    assert after[3]["training"] == before[2]["training"]
    third = required(session.store, MODEL_CHECKPOINT.address("tiny", "animals", 3))
    assert third.manifest.inputs["tiny/model_checkpoint/animals/02"] == before[2]["digest"]
    evaluation = required(session.store, EVALUATION.address("tiny", "animals", 3))
    assert "held_out_loss" in evaluation.manifest.attributes
    assert "heldout_loss" not in evaluation.manifest.attributes
    assert len(session.store.history(RAW_DATASET.address(dataset="animals").name)) == 1
