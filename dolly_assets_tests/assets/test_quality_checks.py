"""What a check or a licence forbids is never trained on: in the same run, a later one or by CLI."""

import json
from pathlib import Path

import dagster as dg
import pytest
from pydantic import JsonValue

from dolly_assets.core.errors import LicenseError, QualityError
from dolly_assets.family import ModelFamily
from dolly_assets.generation.prompt import Prompt
from dolly_assets.registry.quality_reports import require_trainable
from dolly_assets.storage.artifact import Artifact
from dolly_assets_tests.home import TINY_FAMILY
from dolly_assets_tests.in_process import dolly, new_variables, refusal
from dolly_assets_tests.tiny_training import DATASET, Workbench

MARKED = "Four.\n\n### Instruction:\nName a tree.\n\n### Response:\nOak."
TRAIN = ("train", "--model=tiny", "--epochs=1")


def write(path: Path, responses: list[str]) -> Path:
    path.write_text(
        "".join(json.dumps({"instruction": f"Say {r!r}.", "response": r}) + "\n" for r in responses)
    )
    return path


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home with the family `tiny`, for commercial use, and datasets that it must not train on."""
    home = tmp_path_factory.mktemp("home")
    variables = new_variables(
        home, TINY_FAMILY.replace("attributes:", "attributes:\n  use: commercial")
    )
    marked, sound = (
        write(home / "marked.jsonl", [MARKED, "Four."]),
        write(home / "sound.jsonl", ["One.", "Two."]),
    )
    for name, file, license_id in (
        ("marked", marked, "mit"),
        ("nc", sound, "CC-BY-NC-4.0"),
    ):
        assert (
            dolly(variables, "datasets", "add", name, str(file), "--license", license_id).exit_code
            == 0
        )
    return variables


@pytest.mark.slow
def test_training_on_what_a_check_stops_is_refused_with_its_sentence_now_and_later(
    variables: dict[str, str],
) -> None:
    result = dolly(variables, *TRAIN, "--dataset=marked")
    assert result.exit_code == 2
    again = refusal(
        variables, *TRAIN, "--dataset=marked"
    )  # nothing is read again: the report is in the store
    for message in (result.stderr, again):
        assert (
            "dataset marked was refused for training: prompt_markers: 1 of 2 records contain "
            "a marker" in message
        )
        assert "such as record 0 (### Instruction:" in message
        assert "checks.prompt_markers.stop_above" in message


@pytest.mark.slow
def test_dagster_shows_every_check_of_the_partition(variables: dict[str, str]) -> None:
    dolly(variables, *TRAIN, "--dataset=marked")
    key = dg.AssetCheckKey(dg.AssetKey("raw_dataset"), "prompt_markers")
    with dg.DagsterInstance.from_config(str(Path(variables["DOLLY_HOME"]) / "dagster")) as instance:
        record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
        observed = (
            instance.fetch_observations(dg.AssetKey("raw_dataset"), limit=1)
            .records[0]
            .asset_observation
        )
    assert record.event
    assert record.event.dagster_event
    evaluation = record.event.dagster_event.asset_check_evaluation_data
    assert (evaluation.partition, evaluation.passed, evaluation.severity.value) == (
        "marked",
        False,
        "ERROR",
    )
    assert evaluation.metadata["found"].value == 1
    assert "| 0 | `### Instruction:` |" in str(evaluation.metadata["examples"].value)
    assert observed
    assert "| personal_data | passed | 0 of 2 |" in str(observed.metadata["quality"].value)


def test_a_commercial_family_is_refused_other_licences_before_anything_is_read(
    variables: dict[str, str],
) -> None:
    message = refusal(variables, *TRAIN, "--dataset=nc")
    way = "raw_dataset[nc] (CC-BY-NC-4.0) → tiny/tokenized_dataset[nc] → tiny/model_checkpoint[nc]"
    assert (
        f"{way}: the family has use: commercial, but CC-BY-NC-4.0 allows no commercial use"
        in message
    )
    assert not (
        Path(variables["DOLLY_HOME"]) / "store" / "manifests" / "raw_dataset" / "nc"
    ).exists()


@pytest.fixture
def tokenized(workbench: Workbench) -> Artifact:
    return workbench.latest("tokenized_dataset", DATASET)


def republish(workbench: Workbench, **attributes: JsonValue) -> None:
    """The raw dataset with other facts beside the same content."""
    raw = workbench.store.latest(f"raw_dataset/{DATASET}")
    assert raw
    facts = {**raw.manifest.attributes, **attributes}
    workbench.store.commit(raw.name, raw.manifest.files, kind="raw_dataset", attributes=facts)


def test_the_limits_beside_the_newest_raw_dataset_decide(
    workbench: Workbench, tokenized: Artifact
) -> None:
    """One of the examples is asked of every epoch, which by itself only warns."""
    evaluation = workbench.family.evaluation.model_copy(
        update={"prompts": (Prompt(instruction="legs of a  cat"),)}
    )
    family = workbench.family.model_copy(update={"evaluation": evaluation})
    require_trainable(workbench.store, family, tokenized)
    republish(workbench, checks={"evaluation_prompts": {"stop_above": 0.5}})
    with pytest.raises(
        QualityError, match="evaluation_prompts: 1 of 1 evaluation prompts occur in the dataset"
    ):
        require_trainable(workbench.store, family, tokenized)
    republish(workbench, checks=None)
    require_trainable(workbench.store, family, tokenized)


def test_a_report_is_made_once(workbench: Workbench, tokenized: Artifact) -> None:
    require_trainable(workbench.store, workbench.family, tokenized)
    names = [f"dataset_quality/{DATASET}", f"tiny/dataset_quality/{DATASET}"]
    before = [len(workbench.store.history(name)) for name in names]
    require_trainable(workbench.store, workbench.family, tokenized)
    assert [len(workbench.store.history(name)) for name in names] == before


def test_the_licence_of_the_base_model_counts_too(
    workbench: Workbench, tokenized: Artifact
) -> None:
    license_id = workbench.family.base_model.model_copy(update={"license": "cc-by-nc-4.0"})
    family: ModelFamily = workbench.family.model_copy(
        update={"use": "commercial", "base_model": license_id}
    )
    republish(workbench, license="mit")
    with pytest.raises(
        LicenseError, match=r"tiny/base_model \(cc-by-nc-4.0\) → tiny/model_checkpoint\[animals\]"
    ):
        require_trainable(workbench.store, family, tokenized)
