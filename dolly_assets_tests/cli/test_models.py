"""`dolly models …` and `dg scaffold`: a family that fits, or a refusal and nothing written."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dolly_assets.components.scaffolder import FamilyParams, FamilyScaffolder
from dolly_assets.core.errors import ConfigurationError, TrainingError
from dolly_assets_tests.in_process import dolly, new_variables, refusal

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return new_variables(tmp_path_factory.mktemp("home"))


def a_base(folder: Path, **changed: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changed}))
    return folder


def test_a_known_base_becomes_a_family_that_loads(variables: dict[str, str]) -> None:
    result = dolly(variables, "models", "add", "qwen", "Qwen/Qwen3-4B", "--device", "A100-80GB")
    assert result.exit_code == 0, result.output
    file = Path(variables["DOLLY_DEFS"]) / "qwen" / "defs.yaml"
    assert file.read_text() in result.stdout
    assert [each.name for each in file.parent.iterdir()] == ["defs.yaml"]
    shown = json.loads(dolly(variables, "models", "list", "--json").stdout)
    assert {"name": "qwen", "base": "Qwen/Qwen3-4B", "dataset": "databricks_dolly_15k"} in shown[
        "families"
    ]
    assert any(base["source"] == "Qwen/Qwen3-8B" for base in shown["bases"])
    assert "Qwen/Qwen3-4B" in dolly(variables, "models", "list").stdout


def test_a_folder_becomes_a_family(variables: dict[str, str], tmp_path: Path) -> None:
    folder = a_base(tmp_path / "base")
    arguments = ("--device", "L4", "--gpus", "2", "--dataset", "demo", "--license", "mit")
    result = dolly(variables, "models", "add", "mine", str(folder), *arguments)
    assert result.exit_code == 0, result.output
    assert f"source: {folder}" in result.stdout
    assert "license: mit" in result.stdout
    assert "max_length: 256" in result.stdout
    assert "gpus: 2" in result.stdout
    assert "template:" not in result.stdout

    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    result = dolly(variables, "models", "add", "chat", str(folder), *arguments)
    assert "  template: base\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("tiny", "Qwen/Qwen3-4B", "--device", "L4"), "tiny already exists: choose another name"),
        (("x", "Qwen/Qwen3-4B", "--device", "H9"), "compute.device 'H9' is unknown"),
        (("x", "Qwen/Qwen3-8B", "--device", "T4"), "does not fit on 1 × T4: it needs 20"),
        (("X!", "Qwen/Qwen3-8B", "--device", "L4"), "cannot name a model family"),
        (("x", "Qwen/Qwen3-8B", "--device", "L4", "--dataset", "no"), "no"),
        (("x", "./nowhere", "--device", "L4"), "expected a folder written by save_pretrained"),
        (("x", "./a.gguf", "--device", "L4"), "a GGUF file has no config.json"),
    ],
)
def test_what_cannot_be_is_refused(variables: dict[str, str], arguments, text) -> None:
    assert text in refusal(variables, "models", "add", *arguments)
    assert not (Path(variables["DOLLY_DEFS"]) / "x").exists()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM is not a causal language model"),
        ({"architectures": None}, "a model without architectures is not a causal"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "quantized (mxfp4)"),
        ({"vocab_size": None}, "states no vocab_size"),
        ({"hidden_size": None}, "config.json needs one of hidden_size"),
    ],
)
def test_a_base_that_cannot_be_trained_is_refused(
    variables: dict[str, str], tmp_path: Path, changed, text
) -> None:
    folder = a_base(tmp_path / "base", **changed)
    assert text in refusal(variables, "models", "add", "x", str(folder), "--device", "L4")
    assert not (Path(variables["DOLLY_DEFS"]) / "x").exists()


def request(folder: Path, **given: Any) -> dg.ScaffoldRequest[FamilyParams]:
    folder.mkdir()
    return dg.ScaffoldRequest(
        type_name="dolly_assets.components.ModelFamilyComponent",
        target_path=folder,
        scaffold_format=given.pop("scaffold_format", "yaml"),
        project_root=folder.parent,
        params=FamilyParams(**given),
    )


def test_dg_scaffolds_the_same_family(tmp_path: Path) -> None:
    FamilyScaffolder().scaffold(request(tmp_path / "mine", base="Qwen/Qwen3-8B", device="L4"))
    text = (tmp_path / "mine" / "defs.yaml").read_text()
    assert "source: Qwen/Qwen3-8B" in text
    assert "# By the plan: 1 × L4: " in text


def test_dg_scaffolds_nothing_where_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="does not fit on 1 × T4"):
        FamilyScaffolder().scaffold(request(tmp_path / "mine", base="Qwen/Qwen3-8B", device="T4"))
    assert not (tmp_path / "mine").exists()
    with pytest.raises(ConfigurationError, match="a model family is YAML"):
        FamilyScaffolder().scaffold(
            request(tmp_path / "mine", base="Qwen/Qwen3-8B", scaffold_format="python")
        )
    assert not (tmp_path / "mine").exists()
