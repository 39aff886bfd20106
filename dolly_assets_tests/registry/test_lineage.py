"""The records, code, hyper-parameters and devices behind a checkpoint that was really trained."""

import json
from pathlib import Path

import pytest

from dolly_assets.core.code_digest import code_digest
from dolly_assets.registry.kinds import RAW_DATASET, RECORD_LOSSES_FILE
from dolly_assets.registry.lineage import Lineage, lineage_text
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets_tests.home import Home
from dolly_assets_tests.in_process import dolly, refusal

EPOCH_2 = "tiny/model_checkpoint/animals/02"


@pytest.fixture
def store(trained: Home) -> ArtifactStore:
    return ArtifactStore(str(trained.path / "store"), trained.path / "cache")


@pytest.fixture
def lineage(store: ArtifactStore) -> Lineage:
    checkpoint = store.latest(EPOCH_2)
    assert checkpoint
    return Lineage(store, checkpoint)


def test_a_checkpoint_answers_for_data_code_recipe_and_devices(trained: Home) -> None:
    result = dolly(trained.variables, "lineage", EPOCH_2, "--json")
    facts = json.loads(result.stdout)
    assert facts["records"]["dataset"] == "animals"
    assert facts["records"]["source"].endswith("animals.jsonl")
    assert facts["records"]["revision"].startswith("sha256:")
    assert (
        facts["records"]["train_examples"] + facts["records"]["held_out_examples"]
        == facts["records"]["rows"]
    )
    assert facts["hyper_parameters"]["seed"] == 7
    assert facts["base_model"]["source"] == "untrained"
    assert [(each["epoch"], each["ranks"]) for each in facts["devices"]] == [(2, 2), (1, 2)]
    assert all(each["device_kind"] for each in facts["devices"])
    assert facts["code"][0]["code"] == code_digest()
    assert {each["kind"] for each in facts["made_from"]} == {
        "model_checkpoint",
        "tokenized_dataset",
        "raw_dataset",
        "base_model",
    }
    assert facts["licenses"] == {"raw_dataset[animals]": "unknown", "tiny/base_model": "apache-2.0"}
    assert facts["commercial_use"] == "unknown"


def test_a_checkpoint_and_the_comparison_carry_what_the_licences_ask(store: ArtifactStore) -> None:
    for name in (EPOCH_2, "tiny/epoch_comparison/animals"):
        artifact = store.latest(name)
        assert artifact
        assert artifact.manifest.attributes["commercial_use"] == "unknown"
        assert "unknown: raw_dataset[animals] is unknown" in str(
            artifact.manifest.attributes["obligations"]
        )


def test_every_artifact_of_the_chain_leads_back_to_the_raw_dataset(store: ArtifactStore) -> None:
    for asset in ("evaluation", "sample_responses", "gpu_profile", "epoch_comparison"):
        artifact = store.latest(
            f"tiny/{asset}/animals" + ("/02" if asset != "epoch_comparison" else "")
        )
        assert artifact
        assert Lineage(store, artifact).of_kind(RAW_DATASET), asset


def test_records_are_traced_to_steps_and_steps_to_records(lineage: Lineage) -> None:
    steps = {step: lineage.records_of(step) for step in range(1, lineage_steps(lineage) + 1)}
    assert all(steps.values())
    for step, records in steps.items():
        for record in records:
            places = lineage.places_of(record)
            assert not isinstance(places, str)
            assert step in [place.step for place in places]
    held_out = next(record for record in range(48) if isinstance(lineage.places_of(record), str))
    assert lineage.places_of(held_out) == "it is held out"
    assert "no such record" in str(lineage.places_of(48))


def lineage_steps(lineage: Lineage) -> int:
    """The steps that the training logged, both epochs together."""
    checkpoints = [each for each in lineage.ancestors if each.manifest.kind == "model_checkpoint"]
    return sum(int(str(each.manifest.attributes.get("steps", 0))) for each in checkpoints)


def test_the_command_line_traces_too(trained: Home) -> None:
    text = dolly(trained.variables, "lineage", EPOCH_2).stdout
    assert "raw_dataset/animals" in text
    assert "learning_rate 0.001" in text
    records = json.loads(
        dolly(trained.variables, "lineage", EPOCH_2, "--step", "1", "--json").stdout
    )
    places = json.loads(
        dolly(trained.variables, "lineage", EPOCH_2, "--record", str(records[0]), "--json").stdout
    )
    assert places[0]["step"] == 1
    assert "has steps 1 to " in refusal(trained.variables, "lineage", EPOCH_2, "--step", "99")
    assert "has no artifact tiny/nothing" in refusal(trained.variables, "lineage", "tiny/nothing")


def test_the_losses_of_records_are_those_that_the_epochs_trained_with(
    trained: Home, store: ArtifactStore, lineage: Lineage
) -> None:
    """Published by two ranks: each record once, in the step that it was used in."""
    checkpoints = [store.latest(f"tiny/model_checkpoint/animals/0{epoch}") for epoch in (1, 2)]
    tables = [each.read_table(RECORD_LOSSES_FILE).to_pylist() for each in checkpoints if each]
    for epoch, lines in enumerate(tables, start=1):
        used = [line["record"] for line in lines]
        assert len(set(used)) == len(used)
        for line in lines:
            places = lineage.places_of(line["record"])
            assert not isinstance(places, str)
            assert (epoch, line["step"]) in [(place.epoch, place.step) for place in places]
    record = tables[0][0]["record"]
    arguments = ("lineage", EPOCH_2, "--record", str(record), "--json")
    [first, *_] = json.loads(dolly(trained.variables, *arguments).stdout)
    assert first["loss"] == pytest.approx(tables[0][0]["loss"] / tables[0][0]["labelled_tokens"])

    found = json.loads(dolly(trained.variables, "lineage", EPOCH_2, "--losses", "--json").stdout)
    assert found["epochs"] == [1, 2]
    text = dolly(trained.variables, "lineage", EPOCH_2, "--losses").stdout
    assert text.startswith(f"{found['records']:,} records trained on in 2 epochs: ")
    base = "tiny/model_checkpoint/animals/00"
    assert "no epoch that it was made from has the losses of its records" in refusal(
        trained.variables, "lineage", base, "--losses"
    )


def test_what_the_store_has_let_go_of_is_said(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    inputs = {"model_checkpoint": "0" * 64}
    gone = store.publish(
        "tiny/evaluation/animals/04", {"file": Path(__file__)}, kind="evaluation", inputs=inputs
    )
    assert "tiny/model_checkpoint/animals/04  000000000000  no longer in the store" in lineage_text(
        Lineage(store, gone)
    )
