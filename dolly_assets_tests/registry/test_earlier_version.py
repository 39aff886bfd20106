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
    BASE_MODEL,
    EVALUATION,
    FAMILY_ASSETS,
    KINDS,
    MODEL_CHECKPOINT,
    RAW_DATASET,
    TOKENIZED_DATASET,
    TRAINING_PROFILE,
    Partitioning,
)
from dolly_assets.registry.queries import latest, required
from dolly_assets.storage import Artifact
from dolly_assets.worker.spec import Tokenize, WorkerSpec, ref
from dolly_assets.worker.tasks.tokenize import tokenize
from dolly_assets_tests.home import Home
from dolly_assets_tests.in_process import dolly
from dolly_assets_tests.tiny_training import Recorded

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


def tokenize_again(session: Session, scratch: Path) -> Artifact:
    """Tokenize the same data with this version, as a worker does."""
    raw, base_model = RAW_DATASET.address(dataset="animals"), BASE_MODEL.address("tiny")
    task = Tokenize(
        dataset="animals",
        raw_dataset=ref(required(session.store, raw)),
        base_model=ref(required(session.store, base_model)),
    )
    spec = WorkerSpec(
        family=session.family("tiny"),
        task=task,
        store_url=session.store.url,
        cache_dir=scratch / "cache",
        scratch_dir=scratch,
        made_by={"run_id": "test"},
    )
    tokenize(spec, session.store, Recorded().messenger)
    return required(session.store, TOKENIZED_DATASET.address("tiny", "animals"))


@pytest.mark.slow
def test_the_same_data_tokenized_again_is_the_same_training(
    old_home: Home, session: Session, tmp_path: Path
) -> None:
    """Though version 0.1.0 counted the picture into the digest, which is drawn differently now."""
    before = required(session.store, TOKENIZED_DATASET.address("tiny", "animals"))
    again = tokenize_again(session, tmp_path / "scratch")
    assert again.manifest.created_at > before.manifest.created_at
    assert again.digest == before.digest
    result = dolly(
        old_home.variables, *("train", "--model", "tiny", "--dataset", "animals"), "--epochs", "1-2"
    )
    assert result.exit_code == 0, result.output
    assert "nothing to do: everything is up to date" in result.output


@pytest.mark.slow
def test_training_resumes_and_the_new_epoch_names_its_inputs_in_full(
    old_home: Home, session: Session, tmp_path: Path
) -> None:
    before = old_home.status()
    tokenize_again(session, tmp_path / "scratch")
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
