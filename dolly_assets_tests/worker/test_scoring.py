"""The evaluation and sampling tasks, on the base model as it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.generation import memorization
from dolly_assets.registry.kinds import EVALUATION
from dolly_assets.scoring.examples import SCORES_FILE
from dolly_assets.scoring.memorization import MEMORIZATION_FILE
from dolly_assets.storage.artifact import Artifact, artifact_name
from dolly_assets.training import lora
from dolly_assets.training.checkpoint import layout
from dolly_assets.training.lora import LoraSettings
from dolly_assets.worker.messages import Published
from dolly_assets.worker.spec import Evaluate, Sample, ref
from dolly_assets.worker.tasks.evaluate import evaluate
from dolly_assets.worker.tasks.sample import sample
from dolly_assets_tests.tiny_training import DATASET, Recorded, Workbench


@pytest.fixture
def checkpoint(workbench: Workbench) -> Artifact:
    """Weights alone, which is all that scoring reads, and the dataset that they were trained on."""
    files = [
        entry
        for entry in workbench.latest("base_model").manifest.files
        if entry.path.startswith("weights/")
    ]
    inputs = {"tokenized_dataset": workbench.latest("tokenized_dataset", DATASET).digest}
    return workbench.store.commit(
        "scored/model_checkpoint", files, kind="model_checkpoint", inputs=inputs
    )


@pytest.mark.parametrize("answers", ["exact", "open"])
def test_exact_match_is_scored_only_where_answers_can_be_checked(
    workbench: Workbench, checkpoint: Artifact, tmp_path: Path, answers: str
) -> None:
    """Null, never 0, where it was not measured."""
    exact = workbench.latest("tokenized_dataset", DATASET)
    tokenized = workbench.store.commit(
        exact.name,
        exact.manifest.files,
        kind="tokenized_dataset",
        inputs=exact.manifest.inputs,
        attributes={**exact.manifest.attributes, "answers": answers},
    )
    recorded = Recorded()
    task = Evaluate(dataset=DATASET, checkpoints={7: ref(checkpoint)})
    evaluate(workbench.spec(task, tmp_path / "scratch"), workbench.store, recorded.messenger)

    evaluation = workbench.latest("evaluation", DATASET, "07")
    attributes: dict[str, Any] = evaluation.manifest.attributes
    assert [message.name for message in recorded.messages if isinstance(message, Published)] == [
        evaluation.name
    ]
    assert evaluation.manifest.inputs == {
        checkpoint.name: checkpoint.digest,
        tokenized.name: tokenized.digest,
    }
    assert attributes["settings"] == EVALUATION.code_version(workbench.family)
    assert attributes["held_out_examples"] == 3
    assert 0 < attributes["held_out_loss"] < 20
    document = json.loads(evaluation.read_bytes("evaluation.json"))
    assert document["held_out_loss"] == pytest.approx(attributes["held_out_loss"])
    low, high = attributes["held_out_loss_interval"]
    assert low < attributes["held_out_loss"] < high
    scores = evaluation.read_table(SCORES_FILE)
    assert scores.num_rows == 3
    assert scores["answer"].null_count == (0 if answers == "exact" else 3)
    if answers == "exact":
        assert 0 <= attributes["exact_match"] <= 1
        assert document["exact_match"]["score"] == attributes["exact_match"]
        assert attributes["answers_markdown"].startswith("**Right**")
    else:
        for name in ("exact_match", "exact_match_by_category", "answers_markdown"):
            assert attributes[name] is None
        assert document["exact_match"] is None


def test_what_a_model_remembers_is_probed_on_both_sides_of_the_split(
    workbench: Workbench, checkpoint: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With responses that are long enough; otherwise they are counted, and nothing is probed."""
    task = Evaluate(dataset=DATASET, checkpoints={6: ref(checkpoint)})
    found = []
    for prefix, continuation in ((8, 16), (0, 2)):
        monkeypatch.setattr(memorization, "PREFIX_TOKENS", prefix)
        monkeypatch.setattr(memorization, "CONTINUATION_TOKENS", continuation)
        spec = workbench.spec(task, tmp_path / str(prefix))
        evaluate(spec, workbench.store, Recorded().messenger)
        found.append(workbench.latest("evaluation", DATASET, "06"))
    short, probed = found
    assert short.manifest.attributes["memorization_too_short"] == 24
    assert short.manifest.attributes["memorized"] is None
    assert not short.holds(MEMORIZATION_FILE)
    attributes: dict[str, Any] = probed.manifest.attributes
    table = probed.read_table(MEMORIZATION_FILE)
    assert table["is_held_out"].to_pylist().count(True) == 3
    assert attributes["memorization_too_short"] == 24 - (table.num_rows - 3)
    assert 0 <= attributes["memorized"] <= 1
    assert attributes["memorization"] == pytest.approx(
        attributes["memorized"] - attributes["memorized_held_out"]
    )
    assert attributes["memorization_markdown"].startswith("Reproduced verbatim: ")


def test_every_prompt_of_the_family_is_answered(
    workbench: Workbench, checkpoint: Artifact, tmp_path: Path
) -> None:
    task = Sample(dataset=DATASET, checkpoints={7: ref(checkpoint)})
    sample(workbench.spec(task, tmp_path / "scratch"), workbench.store, Recorded().messenger)
    responses = workbench.latest("sample_responses", DATASET, "07")
    assert responses.manifest.inputs == {checkpoint.name: checkpoint.digest}
    document = json.loads(responses.read_bytes("responses.json"))
    assert [each["instruction"] for each in document] == [
        p.instruction for p in workbench.family.evaluation.prompts
    ]
    assert "```\nName an animal.\n```" in str(responses.manifest.attributes["responses_markdown"])


@pytest.mark.slow
def test_an_adapter_is_scored_as_its_merged_weights_are(
    workbench: Workbench, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base_model = workbench.latest("base_model")
    base = base_model.fetch("weights")
    adapted = lora.add_adapter(
        AutoModelForCausalLM.from_pretrained(base),
        LoraSettings(rank=2, alpha=4, merge=True),
        seed=0,
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    adapted.save_pretrained(tmp_path / "saved")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "saved")
    lora.finish(tmp_path / "saved", base, merge=True)
    tree = layout.split(tmp_path / "saved")
    inputs = {
        "base_model": base_model.digest,
        "tokenized_dataset": workbench.latest("tokenized_dataset", DATASET).digest,
    }
    name = artifact_name([workbench.family.name, "scored"], DATASET)
    losses = []
    for folder in ("adapter/", "weights/"):
        part = {path: file for path, file in tree.items() if path.startswith(folder)}
        checkpoint = workbench.store.publish(name, part, kind="model_checkpoint", inputs=inputs)
        evaluate(
            workbench.spec(
                Evaluate(dataset=DATASET, checkpoints={8: ref(checkpoint)}), tmp_path / folder
            ),
            workbench.store,
            Recorded().messenger,
        )
        losses.append(
            workbench.latest("evaluation", DATASET, "08").manifest.attributes["held_out_loss"]
        )
        sample(
            workbench.spec(
                Sample(dataset=DATASET, checkpoints={8: ref(checkpoint)}),
                tmp_path / folder / "respond",
            ),
            workbench.store,
            Recorded().messenger,
        )
    assert losses[0] == losses[1]
