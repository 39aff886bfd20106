"""The folder that transformers loads: the same model, its template and its stops."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.core.errors import BaseModelError
from dolly_assets.exporting import ExportedModel, huggingface
from dolly_assets.exporting.older_readers import portable_config, portable_tokenizer_config
from dolly_assets.generation.dialogue import Dialogue, Settings
from dolly_assets.generation.model import load_with_template
from dolly_assets.training import lora
from dolly_assets.training.lora import LoraSettings
from dolly_assets_tests.exporting.conftest import STYLE, tiny

QUESTIONS = ("Name a colour of the sky.", "Tell me a story.", "Is it hot?")


def answered(folder: Path, question: str) -> tuple[str, list[int]]:
    """What transformers alone answers, by what lies in the folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt: Any = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt"
    )
    ids = model.generate(**prompt, do_sample=False, max_new_tokens=24)[0].tolist()
    said = ids[prompt["input_ids"].shape[1] :]
    return str(tokenizer.decode(said, skip_special_tokens=True)).strip(), said


def chatted(model: ExportedModel, question: str) -> str:
    loaded = load_with_template(
        model.weights, model.style, template=model.template, adapter=model.adapter
    )
    return Dialogue(loaded, Settings(max_new_tokens=24, temperature=0)).ask(question).text


@pytest.mark.parametrize("model_type", ["gpt_neox", "llama"])
def test_transformers_alone_answers_as_the_chat_does(
    model_type: str, weights_of: Callable[..., Path], tmp_path: Path
) -> None:
    model = ExportedModel(weights_of(model_type), template="dolly")
    huggingface.write_folder(model, tmp_path / "out")
    for question in QUESTIONS:
        assert answered(tmp_path / "out", question)[0] == chatted(model, question)


def test_a_model_of_an_earlier_version_gets_its_template_and_its_stops(
    weights_of: Callable[..., Path], tokenizer: Any, tmp_path: Path
) -> None:
    weights = weights_of("llama")
    for name in ("chat_template.jinja", "generation_config.json"):
        (weights / name).unlink()
    huggingface.write_folder(ExportedModel(weights), tmp_path / "out")
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == tokenizer.chat_template
    stops = json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"]
    ends = tokenizer.convert_tokens_to_ids([STYLE.end_key, tokenizer.eos_token])
    assert stops == ends


def test_an_adapter_is_merged(
    weights_of: Callable[..., Path], tokenizer: Any, tmp_path: Path
) -> None:
    import torch

    weights = weights_of("llama")
    adapted = lora.add_adapter(tiny("llama", tokenizer), LoraSettings(rank=4, alpha=16), 0)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    model = ExportedModel(weights, tmp_path / "adapter", "dolly")
    huggingface.write_folder(model, tmp_path / "out")
    answers = [answered(tmp_path / "out", question)[0] for question in QUESTIONS]
    assert answers == [chatted(model, question) for question in QUESTIONS]
    assert answers != [chatted(ExportedModel(weights), question) for question in QUESTIONS]
    assert not list((tmp_path / "out").glob("adapter*"))


def test_files_that_no_loader_reads_stay_behind(
    weights_of: Callable[..., Path], tmp_path: Path
) -> None:
    weights = weights_of("llama")
    (weights / "modeling_own.py").write_text("raise SystemExit")
    huggingface.write_folder(ExportedModel(weights, template="dolly"), tmp_path / "out")
    assert not (tmp_path / "out" / "modeling_own.py").exists()
    with pytest.raises(BaseModelError, match="holds no weights"):
        huggingface.write_folder(ExportedModel(tmp_path / "nothing"), tmp_path / "other")


LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("config", "former"),
    [
        ({"model_type": "llama", "rope_theta": 7e3}, {"rope_theta": 7e3}),
        (
            {"model_type": "gpt_neox", "rotary_pct": 0.5, "rotary_emb_base": 7e3},
            {"rotary_pct": 0.5, "rotary_emb_base": 7e3},
        ),
        (
            {"model_type": "llama", "rope_parameters": LLAMA_3},
            {
                "rope_theta": 5e5,
                "rope_scaling": {k: v for k, v in LLAMA_3.items() if k != "rope_theta"},
            },
        ),
        (
            {"model_type": "gemma3_text", "rope_theta": 5e5, "rope_local_base_freq": 7e3},
            {"rope_theta": 5e5, "rope_local_base_freq": 7e3},
        ),
    ],
)
def test_a_configuration_has_former_names_and_reads_as_before(
    config: dict[str, Any], former: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import AutoConfig

    kind = config.pop("model_type")
    AutoConfig.for_model(kind, **config, dtype="bfloat16").save_pretrained(tmp_path / "before")
    written = portable_config(json.loads((tmp_path / "before" / "config.json").read_text()))
    assert {key: written.get(key) for key in former} == former
    assert written["torch_dtype"] == "bfloat16"
    (tmp_path / "config.json").write_text(json.dumps(written))
    before, after = (
        AutoConfig.from_pretrained(folder).to_dict() for folder in (tmp_path / "before", tmp_path)
    )
    assert after["rope_parameters"] == before["rope_parameters"]
    assert after["dtype"] == before["dtype"]


def test_a_tokenizer_is_described_for_either_version() -> None:
    written = portable_tokenizer_config(
        {
            "tokenizer_class": "TokenizersBackend",
            "backend": "tokenizers",
            "extra_special_tokens": ["### End"],
            "is_local": True,
            "eos_token": "</s>",
        }
    )
    assert written == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["### End"],
        "eos_token": "</s>",
    }
