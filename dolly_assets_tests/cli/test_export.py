"""`dolly export` on checkpoints of the family `tiny`, published by the worker's own tasks."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dolly_assets.cli.main import main
from dolly_assets.exporting import Export
from dolly_assets.registry.attributes import ChampionExportAttributes
from dolly_assets.registry.inputs import as_inputs
from dolly_assets.registry.promotion import place
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.spec import ExportModel, ref
from dolly_assets.worker.tasks.export import export as export_task
from dolly_assets_tests.home import TINY_FAMILY
from dolly_assets_tests.tiny_training import DATASET, Recorded, Workbench, make_workbench

pytestmark = pytest.mark.slow
FEW = ("--prompts", "3", "--max-new-tokens", "6")


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A store with an untrained checkpoint of epoch 1, which is the champion."""
    found = make_workbench(tmp_path_factory.mktemp("export"))
    base, tokenized = found.latest("base_model"), found.latest("tokenized_dataset", DATASET)
    stated = {name: base.manifest.attributes[name] for name in ("template", "template_digest")}
    found.store.commit(
        f"tiny/model_checkpoint/{DATASET}/01",
        base.manifest.files,
        kind="model_checkpoint",
        inputs=as_inputs(base, tokenized),
        attributes={"epoch": 1, **stated},
    )
    return found


@pytest.fixture
def run(workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "defs" / "tiny").mkdir(parents=True)
    (tmp_path / "defs" / "tiny" / "defs.yaml").write_text(TINY_FAMILY)
    monkeypatch.setenv("DOLLY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOLLY_STORE", str(workbench.folder / "store"))
    monkeypatch.setenv("DOLLY_DEFS", str(tmp_path / "defs"))
    return lambda *arguments: CliRunner().invoke(main, ["export", *map(str, arguments)])


def failed(result: Result) -> str:
    assert result.exit_code == 2, result.output
    [line] = [line for line in result.output.splitlines() if line.startswith("dolly: ")]
    return line


def test_a_checkpoint_is_exported_whole(run: Any, tmp_path: Path) -> None:
    result = run(f"tiny/{DATASET}/1", "--to", tmp_path / "hf", "--format", "hf", *FEW)
    assert result.exit_code == 0, result.output
    assert "transformers: 3 of 3 answers equal, 0 nats per token apart" in result.output
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["torch_dtype"] == "float32"


def test_an_ollama_model_has_a_file_and_a_modelfile(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "ollama"
    result = run(f"tiny/{DATASET}/1", "--to", out, "--format", "ollama", "--quantize", "f32", *FEW)
    assert result.exit_code == 0, result.output
    assert "the file's tensors: 3 of 3 answers equal" in result.output
    lines = (out / "Modelfile").read_text().splitlines()
    assert lines[0] == "FROM ./model.gguf"
    assert 'PARAMETER stop "### End"' in lines
    assert (out / "model.gguf").read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((f"tiny/{DATASET}/7", "hf"), "has no epoch 7 in the store"),
        ((f"tiny/{DATASET}/x", "hf"), "expected MODEL/DATASET"),
        (("none/demo/1", "hf"), "none"),
        ((f"tiny/{DATASET}/1", "lora"), "all weights of this model were trained"),
        ((f"tiny/{DATASET}/1", "hf", "--quantize", "f16"), "--quantize is for gguf and ollama"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    arguments: tuple[str, ...], found: str, run: Any, tmp_path: Path
) -> None:
    target, export_format, *options = arguments
    out = tmp_path / "exports" / "out"
    assert found in failed(run(target, "--to", out, "--format", export_format, *options))
    assert not out.parent.exists() or not list(out.parent.iterdir())


def test_a_folder_with_files_is_left_as_it_is(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    line = failed(run(f"tiny/{DATASET}/1", "--to", tmp_path, "--format", "hf"))
    assert f"{tmp_path} is not empty" in line


@pytest.fixture(scope="module")
def champion(workbench: Workbench) -> Artifact:
    checkpoint = workbench.latest("model_checkpoint", DATASET, "01")
    decided, by = {"verdict": "promoted"}, {"run_id": "test"}
    return place(workbench.store, "tiny", DATASET, "production", checkpoint, decided, by)


def exported(workbench: Workbench, champion: Artifact, scratch: Path, **settings: Any) -> Artifact:
    export = Export(prompts=3, max_new_tokens=6, **settings)
    family = workbench.family.model_copy(update={"export": export})
    task = ExportModel(dataset=DATASET, champion=ref(champion))
    recorded = Recorded()
    export_task(workbench.spec(task, scratch, family), workbench.store, recorded.messenger)
    return workbench.latest("champion_export", DATASET)


def test_the_champion_is_exported_once(
    workbench: Workbench, champion: Artifact, run: Any, tmp_path: Path
) -> None:
    first = exported(workbench, champion, tmp_path / "1", formats=("hf",))
    both = exported(workbench, champion, tmp_path / "2", formats=("hf", "gguf"))
    assert not (tmp_path / "2" / "hf").exists()  # referred to, not written
    stated = ChampionExportAttributes.of(both)
    assert stated.exports["hf"] == ChampionExportAttributes.of(first).exports["hf"]
    assert all(each.passed for each in stated.exports.values())
    assert {entry.path.split("/")[0] for entry in both.manifest.files} == {"hf", "gguf"}
    result = run(f"tiny/{DATASET}/champion", "--to", tmp_path / "out", "--format", "hf", *FEW)
    assert result.exit_code == 0, result.output
    assert f"fetching it from tiny/champion_export/{DATASET}" in result.output
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_other_settings_are_another_export(
    workbench: Workbench, champion: Artifact, tmp_path: Path
) -> None:
    exports = [
        exported(workbench, champion, tmp_path / each, formats=("gguf",), quantize=each)
        for each in ("f16", "f32")
    ]
    keys = {ChampionExportAttributes.of(each).exports["gguf"].key for each in exports}
    assert len(keys) == 2


def test_an_adapter_is_exported_with_its_base_model(
    workbench: Workbench, run: Any, tmp_path: Path
) -> None:
    adapter_in(workbench.store, workbench, tmp_path)
    out = tmp_path / "lora"
    result = run(f"tiny/{DATASET}/2", "--to", out, "--format", "lora", *FEW)
    assert result.exit_code == 0, result.output
    assert "peft: 3 of 3 answers equal" in result.output
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base_model"
    assert (out / "base_model" / "model.safetensors").exists()
    merged = run(f"tiny/{DATASET}/2", "--to", tmp_path / "gguf", "--format", "gguf", *FEW)
    assert merged.exit_code == 0, merged.output
    assert [path.name for path in (tmp_path / "gguf").iterdir()] == ["model.gguf"]
    merged = run(f"tiny/{DATASET}/2", "--to", tmp_path / "merged", "--format", "hf", *FEW)
    assert merged.exit_code == 0, merged.output
    assert "transformers: 3 of 3 answers equal" in merged.output


def adapter_in(store: ArtifactStore, workbench: Workbench, folder: Path) -> None:
    """Publish an adapter of the base model as epoch 2."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from dolly_assets.training import lora
    from dolly_assets.training.lora import LoraSettings

    base, tokenized = workbench.latest("base_model"), workbench.latest("tokenized_dataset", DATASET)
    weights = base.fetch("weights")
    adapted: Any = lora.add_adapter(
        AutoModelForCausalLM.from_pretrained(weights), LoraSettings(rank=2, alpha=4), 0
    )
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.05)
    out = folder / "published" / "adapter"
    adapted.save_pretrained(out)
    AutoTokenizer.from_pretrained(weights).save_pretrained(out)
    lora.finish(out, weights, merge=False)
    stated = {name: base.manifest.attributes[name] for name in ("template", "template_digest")}
    store.publish(
        f"tiny/model_checkpoint/{DATASET}/02",
        folder / "published",
        kind="model_checkpoint",
        inputs=as_inputs(base, tokenized),
        attributes={"epoch": 2, **stated},
    )
