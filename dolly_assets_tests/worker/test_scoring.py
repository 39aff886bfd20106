"""The evaluation and sampling tasks, on the base model as it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.assets.resources import ref
from dolly_assets.storage.artifact import Artifact
from dolly_assets.worker.evaluate import evaluate
from dolly_assets.worker.report import Published
from dolly_assets.worker.respond import respond
from dolly_assets.worker.spec import Evaluate, Respond
from dolly_assets_tests.tiny_training import DATASET, Bench, Recorded


@pytest.fixture
def checkpoint(bench: Bench) -> Artifact:
    """Weights alone, which is all that scoring reads, and the dataset that they were trained on."""
    files = [entry for entry in bench.latest("base_model").manifest.files if entry.path.startswith("weights/")]
    inputs = {"tokenized_dataset": bench.latest("tokenized_dataset", DATASET).digest}
    return bench.store.commit("scored/model_checkpoint", files, kind="model_checkpoint", inputs=inputs)


@pytest.mark.parametrize("answers", ["exact", "open"])
def test_exact_match_is_scored_only_where_answers_can_be_checked(
    bench: Bench, checkpoint: Artifact, tmp_path: Path, answers: str
) -> None:
    """Null, never 0, where it was not measured."""
    exact = bench.latest("tokenized_dataset", DATASET)
    tokenized = bench.store.commit(
        exact.name,
        exact.manifest.files,
        kind="tokenized_dataset",
        inputs=exact.manifest.inputs,
        attributes={**exact.manifest.attributes, "answers": answers},
    )
    recorded = Recorded()
    task = Evaluate(dataset=DATASET, checkpoints={7: ref(checkpoint)})
    evaluate(bench.spec(task, tmp_path / "scratch"), bench.store, recorded.report)

    evaluation = bench.latest("evaluation", DATASET, "07")
    attributes: dict[str, Any] = evaluation.manifest.attributes
    assert [message.name for message in recorded.messages if isinstance(message, Published)] == [evaluation.name]
    assert evaluation.manifest.inputs == {"model_checkpoint": checkpoint.digest, "tokenized_dataset": tokenized.digest}
    assert attributes["settings"] == bench.family.settings_digest("evaluation")
    assert attributes["heldout_examples"] == 3
    assert 0 < attributes["heldout_loss"] < 20
    document = json.loads(evaluation.read_bytes("evaluation.json"))
    assert document["heldout_loss"] == attributes["heldout_loss"]
    if answers == "exact":
        assert 0 <= attributes["exact_match"] <= 1
        assert document["exact_match"]["score"] == attributes["exact_match"]
        assert attributes["answers_markdown"].startswith("**Right**")
    else:
        for name in ("exact_match", "exact_match_by_category", "answers_markdown"):
            assert attributes[name] is None
        assert document["exact_match"] is None


def test_every_prompt_of_the_family_is_answered(bench: Bench, checkpoint: Artifact, tmp_path: Path) -> None:
    task = Respond(dataset=DATASET, checkpoints={7: ref(checkpoint)})
    respond(bench.spec(task, tmp_path / "scratch"), bench.store, Recorded().report)
    responses = bench.latest("sample_responses", DATASET, "07")
    assert responses.manifest.inputs == {"model_checkpoint": checkpoint.digest}
    document = json.loads(responses.read_bytes("responses.json"))
    assert [each["instruction"] for each in document] == [p.instruction for p in bench.family.evaluation.prompts]
    assert "**Name an animal.**" in str(responses.manifest.attributes["responses_markdown"])
