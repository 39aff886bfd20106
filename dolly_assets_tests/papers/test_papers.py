"""Documents of a model that was really trained: validators accept them, figures are the store's."""

import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from dolly_assets.datasets.licenses import hub_tag, spdx_id
from dolly_assets.papers.licensing import card_license, why_not_public
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets_tests.home import Home
from dolly_assets_tests.in_process import dolly, refusal

EPOCH_2 = "tiny/model_checkpoint/animals/02"
ARCHIVE = Path(__file__).parents[1] / "fixtures" / "home_0_1_0.tar.xz"


def written(home: Home, *arguments: str) -> str:
    result = dolly(home.variables, "card", *arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def latest(home: Home, name: str) -> Artifact:
    found = ArtifactStore(str(home.path / "store"), home.path / "cache").latest(name)
    assert found
    return found


@pytest.fixture(scope="module")
def lineage(trained: Home) -> dict[str, Any]:
    return json.loads(dolly(trained.variables, "lineage", EPOCH_2, "--json").stdout)


@pytest.fixture(scope="module")
def card(trained: Home) -> str:
    return written(trained, "tiny/animals/2")


def test_a_card_states_what_lineage_states(card: str, lineage: dict[str, Any]) -> None:
    for made in lineage["made_from"]:
        assert f"| {made['name']} | `{made['digest']}` |" in card
    for name in lineage["hyper_parameters"]:
        assert f"| `{name}` |" in card
    records = lineage["records"]
    assert f"| examples trained on | {records['train_examples']} |" in card
    assert f"| SHA-256 of the content | {records['content_digest']} |" in card
    assert "| source | animals.jsonl |" in card  # and not the folders of this machine
    assert str(Path(records["source"]).parent) not in card
    assert all(each.split(" (")[0] in card for each in lineage["obligations"])
    assert "| devices | 2 × cpu |" in card


def test_figures_of_a_card_are_those_of_the_manifests(trained: Home, card: str) -> None:
    epochs = [latest(trained, f"tiny/model_checkpoint/animals/0{n}") for n in (1, 2)]
    stated = [each.manifest.attributes for each in epochs]
    seconds = sum(float(str(each["training_seconds"])) for each in stated)
    assert f"({seconds:.1f} s)" in card
    for each in stated:
        assert f"| {each['epoch']} | {each['steps']} | {float(str(each['loss'])):.4f} |" in card
    scores = latest(trained, "tiny/evaluation/animals/02").manifest.attributes
    low, high = scores["exact_match_interval"]  # type: ignore[misc]
    shown = f"{scores['exact_match']:.4f} ({low:.4f} to {high:.4f})"
    assert f"| Exact match | {shown} | {scores['held_out_examples']} held-out examples |" in card
    samples = latest(trained, "tiny/sample_responses/animals/02").manifest.attributes
    assert str(samples["responses_markdown"]) in card


def test_the_hub_reads_the_metadata_of_a_card(trained: Home, card: str) -> None:
    from huggingface_hub import ModelCard

    read: Any = ModelCard(card).data
    scores = latest(trained, "tiny/evaluation/animals/02").manifest.attributes
    results = {each.metric_type: each.metric_value for each in read.eval_results or []}
    assert results["exact_match"] == scores["exact_match"]
    assert results["loss"] == scores["held_out_loss"]
    assert read.license == "unknown"  # that of the data is
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["dolly_assets"] == {"artifact": EPOCH_2, "digest": latest(trained, EPOCH_2).digest}


def test_a_strict_validator_accepts_the_bill_of_materials(
    trained: Home, lineage: dict[str, Any]
) -> None:
    schema = pytest.importorskip("cyclonedx.schema")
    validation = pytest.importorskip("cyclonedx.validation.json")
    text = written(trained, EPOCH_2, "--format", "ml-bom")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    bom = json.loads(text)
    components = [bom["metadata"]["component"], *bom["components"]]
    assert {(each["name"], each["version"]) for each in components} == {
        (each["name"], each["digest"]) for each in lineage["made_from"]
    }
    depends = {each["ref"]: set(each["dependsOn"]) for each in bom["dependencies"]}
    for made in lineage["made_from"]:
        assert depends[f"{made['name']}@{made['digest']}"] == set(made["inputs"].values())
    metrics = components[0]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    scores = latest(trained, "tiny/evaluation/animals/02").manifest.attributes
    assert {each["type"]: each["value"] for each in metrics}["exact_match"] == str(
        scores["exact_match"]
    )
    assert text == written(trained, EPOCH_2, "--format", "ml-bom")


def test_croissant_describes_the_file_of_the_dataset(trained: Home, tmp_path: Path) -> None:
    raw = latest(trained, "raw_dataset/animals")
    document = json.loads(written(trained, "raw_dataset/animals"))
    assert document == json.loads(written(trained, EPOCH_2, "--format", "croissant"))
    [file] = document["distribution"]
    assert file["sha256"] == raw.manifest.files[0].sha256
    fields = [each["name"] for each in document["recordSet"][0]["field"]]
    assert fields == raw.read_table("data.parquet").column_names
    mlcroissant = pytest.importorskip("mlcroissant")
    shutil.copy(raw.local_file("data.parquet"), tmp_path)
    (tmp_path / "croissant.json").write_text(json.dumps(document))
    dataset = mlcroissant.Dataset(jsonld=tmp_path / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert len([*dataset.records("exchanges")]) == raw.manifest.attributes["rows"]


def test_the_data_summary_has_every_section_and_answers_nothing_that_nobody_recorded(
    trained: Home,
) -> None:
    text = written(trained, "tiny/animals/2", "--format", "data-summary")
    sections = re.findall(r"^#{2,4} ([\d.]+)", text, re.MULTILINE)
    assert sections == [
        *("1.", "1.1.", "1.2.", "1.3."),
        *("2.", "2.1.", "2.2.", "2.2.1.", "2.2.2.", "2.3.", "2.4.", "2.5.", "2.6."),
        *("3.", "3.1.", "3.2.", "3.3."),
    ]
    assert "Publicly available datasets were used: not recorded" in text  # it is a user's file
    assert "Provider name and contact details: not recorded" in text
    assert "C(2025) 8311" in text


def test_all_documents_are_written_into_a_folder(trained: Home, tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    files = written(trained, "tiny/animals/2", "--to", str(folder)).splitlines()
    assert {Path(file).name for file in files} == {
        *("README.md", "training-data.md", "ml-bom.cdx.json", "croissant.json", "LICENSES.md")
    }
    assert (folder / "README.md").read_text() == written(trained, "tiny/animals/2")
    one = tmp_path / "bom.json"
    written(trained, "tiny/animals/2", "--format", "ml-bom", "--to", str(one))
    assert one.read_text() == (folder / "ml-bom.cdx.json").read_text()


def test_the_champion_has_a_card_with_the_decision(trained: Home) -> None:
    champion = latest(trained, "tiny/champion_model/animals")
    text = written(trained, "tiny/animals")
    assert text == written(trained, "tiny/animals/champion")
    assert f"digest: {champion.digest}" in text
    assert "| stage | champion_model: " in text


def test_an_adapter_is_not_called_trained_from_scratch(trained_copy: Home, tmp_path: Path) -> None:
    """Its base model here is one that was never trained."""
    assert "A language model, trained from scratch on" in written(trained_copy, "tiny/animals/2")
    whole = latest(trained_copy, EPOCH_2).manifest
    (tmp_path / "config").write_text("{}")
    ArtifactStore(str(trained_copy.path / "store"), tmp_path / "cache").publish(
        EPOCH_2,
        {"adapter/adapter_config.json": tmp_path / "config"},
        kind=whole.kind,
        inputs=whole.inputs,
        attributes=whole.attributes,
        made_by=whole.made_by,
    )
    assert "An adapter (LoRA), fine-tuned from an untrained " in written(
        trained_copy, "tiny/animals/2"
    )
    summary = written(trained_copy, "tiny/animals/2", "--format", "data-summary")
    assert "Model dependencies: none: its base model is untrained" in summary
    assert "scratch" not in summary


def test_models_of_an_earlier_version_say_what_is_not_recorded(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    text = written(Home(tmp_path), "tiny/animals/2")
    assert "| energy of the GPUs | not recorded |" in text
    assert "not recorded" in text.split("## How to prompt")[1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny/animals/9", "is not in the store"),
        ("tiny/animals/staging", "tiny/animals has no model in staging: name an epoch"),
        ("tiny/animals/best", "expected MODEL/DATASET, MODEL/DATASET/EPOCH"),
        ("tiny/evaluation/animals/02", "is of the kind evaluation, and no model"),
        ("tiny/nothing/of/this", "expected MODEL/DATASET"),
        ("tiny", "has no artifact tiny; see: dolly artifacts list"),
    ],
)
def test_what_has_no_card_is_refused(trained: Home, name: str, expected: str) -> None:
    assert expected in refusal(trained.variables, "card", name)


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        (["Apache-2.0", "apache-2.0"], {"license": "apache-2.0"}),
        (["my own", "apache-2.0"], {"license": "unknown"}),
        (["ODC-By-1.0"], {"license": "odc-by"}),
        (
            ["CC-BY-NC-4.0", "apache-2.0"],
            {
                "license": "other",
                "license_name": "apache-2.0-and-cc-by-nc-4.0",
                "license_link": "LICENSES.md",
            },
        ),
        ([], {"license": "unknown"}),
    ],
)
def test_the_licence_of_a_card_is_that_of_all_it_was_made_from(
    licenses: list[str], expected: dict[str, str]
) -> None:
    assert card_license({str(place): each for place, each in enumerate(licenses)}) == expected


def test_what_must_not_be_published_is_known() -> None:
    def why(*licenses: str) -> list[str]:
        return why_not_public({"licenses": {f"asset {each}": each for each in licenses}})

    assert not why("CC-BY-NC-4.0", "apache-2.0")
    assert why("CC-BY-ND-4.0") == [
        "asset CC-BY-ND-4.0 is CC-BY-ND-4.0, and no adapted version may be shared"
    ]
    assert why("my own") == ["asset my own is my own, and its terms are unknown"]
    assert why_not_public({"licenses": None})


@pytest.mark.parametrize(
    ("license_id", "spdx", "tag"),
    [
        ("apache-2.0", "Apache-2.0", "apache-2.0"),
        ("GPL-3.0-or-later", "GPL-3.0-or-later", "gpl-3.0"),
        ("cc-by-nc-4.0", "CC-BY-NC-4.0", "cc-by-nc-4.0"),
        ("odbl", "ODbL-1.0", "odbl"),
        ("llama3.1", None, "llama3.1"),
        ("mit-0", "MIT-0", "other"),
        ("mine", None, "unknown"),
    ],
)
def test_licences_are_spelled_as_spdx_and_the_hub_do(
    license_id: str, spdx: str | None, tag: str
) -> None:
    known = pytest.importorskip("cyclonedx.spdx")
    assert (spdx_id(license_id), hub_tag(license_id)) == (spdx, tag)
    assert spdx is None or known.is_supported_id(spdx)
