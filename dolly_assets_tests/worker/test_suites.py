"""The task of suites: what is scored, what is taken over, and what does not fit the model."""

import json
import math
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dolly_assets.assets.suite_checks import compare_suites
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.family import Evaluation, ModelFamily
from dolly_assets.generation.model import load
from dolly_assets.registry.attributes import SuiteScoresAttributes
from dolly_assets.registry.kinds import SUITE, SUITE_SCORES
from dolly_assets.registry.suite_scores import suites_in
from dolly_assets.storage.artifact import Artifact
from dolly_assets.tokenization.tokenized_dataset import TRAIN_FILE
from dolly_assets.worker.messages import Log, Published
from dolly_assets.worker.spec import ScoreSuites, ref
from dolly_assets.worker.tasks.score_suites import score_suites
from dolly_assets_tests.tiny_training import DATASET as ANIMALS
from dolly_assets_tests.tiny_training import RAW, Recorded, Workbench

DATASET = "judged"
QUESTION = {"prompt": "Legs of a cat?", "expected": "four"}
CHOICE = {**QUESTION, "scorer": "choice", "choices": ["two", "four", "six hundred"]}
TEXT = {"scorer": "text", "text": "A cat has four legs. " * 12}
LEGS = [QUESTION, {**QUESTION, "id": "b", "scorer": "f1"}, {**CHOICE, "id": "c"}]


class Judged:
    """A folder of suites, and workers that score the base model on them."""

    def __init__(self, workbench: Workbench, folder: Path) -> None:
        self.workbench, self.folder = workbench, folder
        self.runs = 0

    def family(self, **suites: tuple[list[dict[str, Any]], dict[str, Any]]) -> ModelFamily:
        """The family with suites: records and settings by name."""
        declared = {}
        for name, (records, settings) in suites.items():
            (self.folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
            declared[name] = {"file": f"{name}.jsonl", **settings}
        evaluation = Evaluation.model_validate(
            {"max_new_tokens": 4, "batch_size": 2, "suites": declared}
        )
        return self.workbench.family.model_copy(
            update={"evaluation": evaluation.resolved(self.folder)}
        )

    def score(
        self, family: ModelFamily, dataset: str = DATASET, tokenized: str | None = None
    ) -> list[str]:
        """Score the base model as an epoch 0, and return what the worker logs.

        Args:
            family: Its family.
            dataset: The dataset that it counts as trained on.
            tokenized: The digest of its tokenized dataset, if the checkpoint states one.
        """
        store, base_model = self.workbench.store, self.workbench.latest("base_model")
        checkpoint = store.commit(
            f"tiny/model_checkpoint/{dataset}/00",
            [file for file in base_model.manifest.files if file.path.startswith("weights/")],
            kind="model_checkpoint",
            inputs={
                base_model.name: base_model.digest,
                **({f"tiny/tokenized_dataset/{dataset}": tokenized} if tokenized else {}),
            },
            attributes={"epoch": 0, "weights_sha256": "of the base model"},
        )
        suites = {
            name: ref(
                store.publish(
                    SUITE.address("tiny", name).name,
                    suite.files(),
                    kind=SUITE.name,
                )
            )
            for name, suite in family.evaluation.suites.items()
        }
        task = ScoreSuites(dataset=dataset, checkpoints={0: ref(checkpoint)}, suites=suites)
        self.runs += 1
        spec = self.workbench.spec(task, self.folder / f"scratch-{self.runs}", family)
        recorded = Recorded()
        score_suites(spec, store, recorded.messenger)
        published = [each.name for each in recorded.messages if isinstance(each, Published)]
        assert published == [f"tiny/suite_scores/{dataset}/00"]
        return [each.text for each in recorded.messages if isinstance(each, Log)]

    def newest(self, dataset: str = DATASET) -> Artifact:
        return self.workbench.latest("suite_scores", dataset, "00")


@pytest.fixture
def judged(workbench: Workbench, tmp_path: Path) -> Judged:
    return Judged(workbench, tmp_path)


def test_a_suite_is_scored_once_for_the_same_weights(judged: Judged) -> None:
    """Until its records or settings change; then it alone is scored again."""
    plain = ([TEXT], {})
    family = judged.family(legs=(LEGS, {}), plain=plain)
    warning, legs, of_text = judged.score(family)
    assert warning.startswith("suite legs: all 3 records expect the same answer, 'four'")
    assert legs.startswith("epoch 0: legs 0.")
    assert of_text.endswith(" bits per byte")
    first, scores = judged.newest(), SuiteScoresAttributes.of(judged.newest())
    assert scores.settings == SUITE_SCORES.code_version(family)
    table = suites_in(first)["legs"].table()
    assert table["id"].to_pylist() == ["1", "b", "c"]
    assert scores.suites["legs"].score == pytest.approx(sum(table["score"].to_pylist()) / 3)
    assert scores.suites["legs"].warnings == [warning.removeprefix("suite legs: ")]
    assert scores.scores_markdown
    assert "| legs | 3 |" in scores.scores_markdown

    assert judged.score(family) == ["epoch 0: scored before on legs, plain"]
    assert judged.newest().digest == first.digest
    assert judged.score(family, "another")[0] == "epoch 0: scored before on legs, plain"

    changed = judged.family(legs=(LEGS[:2], {}), plain=plain)
    assert judged.score(changed)[0] == "epoch 0: scored before on plain"
    assert suites_in(judged.newest())["legs"].table().num_rows == 2
    assert suites_in(judged.newest())["plain"].score == scores.suites["plain"]
    back = judged.family(legs=(LEGS, {}), plain=plain)
    assert judged.score(back) == ["epoch 0: scored before on legs, plain"]


@pytest.mark.parametrize("is_normalized", [False, True])
def test_choices_and_texts_have_the_likelihood_that_transformers_computes(
    judged: Judged, *, is_normalized: bool
) -> None:
    import torch

    settings = {"chat_template": False, "length_normalized": is_normalized}
    judged.score(judged.family(plain=([CHOICE, TEXT], settings)), f"plain-{is_normalized}")
    chosen, text = suites_in(judged.newest(f"plain-{is_normalized}"))["plain"].table().to_pylist()
    model, tokenizer = load(judged.workbench.latest("base_model").fetch("weights"), device="cpu")

    def loss(before: str, after: str) -> float:
        ids = tokenizer(before + after).input_ids
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        start = len(tokenizer(before).input_ids)
        return -float(sum(logits[at - 1, ids[at]] for at in range(start, len(ids))))

    losses = [loss(CHOICE["prompt"], f" {choice}") for choice in CHOICE["choices"]]
    assert chosen["choice_losses"] == pytest.approx(losses, rel=1e-5)
    per = [len(choice) if is_normalized else 1 for choice in CHOICE["choices"]]
    best = min(range(3), key=lambda at: losses[at] / per[at])
    assert chosen["answer"] == CHOICE["choices"][best]
    assert chosen["score"] == (chosen["answer"] == "four")
    # More than the context of 128 tokens: several windows, in which each token is scored once.
    assert text["tokens"] == len(tokenizer(TEXT["text"]).input_ids) > 128
    assert text["bytes"] == len(TEXT["text"])
    assert 1 < text["loss"] / text["tokens"] / math.log(2) < 20


def test_a_prompt_that_is_longer_than_the_context_is_named_and_nothing_is_scored(
    judged: Judged,
) -> None:
    long = {**QUESTION, "prompt": "Legs? " * 200}
    with pytest.raises(ConfigurationError, match=r"suite legs:2: the prompt has .* context of 128"):
        judged.score(judged.family(legs=([QUESTION, long], {})), "too_long")
    assert judged.workbench.store.latest("tiny/suite_scores/too_long/00") is None


def test_instructions_that_an_answer_does_not_follow_are_listed(judged: Judged) -> None:
    asked = {"prompt": "Name an animal.", "scorer": "instructions"}
    records = [{**asked, "instructions": {"min_words": 100, "case": "lower"}}]
    judged.score(judged.family(rules=(records, {})), "rules")
    [row] = suites_in(judged.newest("rules"))["rules"].table().to_pylist()
    assert row["score"] == 0
    assert "min_words" in row["unfollowed"]
    assert "min_words" in str(judged.newest("rules").manifest.attributes["answers_markdown"])


def test_records_that_the_training_data_holds_are_marked_and_warned_of(judged: Judged) -> None:
    """Also where a suite was scored before the training data was known."""
    tokenized = judged.workbench.latest("tokenized_dataset", ANIMALS)
    used = tokenized.read_table(TRAIN_FILE)["record"][0].as_py()
    known = RAW.slice(used, 1).to_pylist()[0]
    seen = {"id": "seen", "prompt": known["instruction"], "expected": known["response"]}
    new = {"id": "new", "prompt": "How many wheels has a lorry?", "expected": "six"}
    family = judged.family(legs=([seen, new], {}))
    judged.score(family)
    [before] = suites_in(judged.newest()).values()
    assert before.score.contaminated is None
    assert "does not state the tokenized_dataset" in str(before.score.contamination)
    assert before.table()["is_contaminated"].to_pylist() == [None, None]
    assert not [*compare_suites(judged.workbench.store, judged.newest())]

    assert judged.score(family, ANIMALS, tokenized.digest) == ["epoch 0: scored before on legs"]
    scores = judged.newest(ANIMALS)
    [after] = suites_in(scores).values()
    assert after.table()["is_contaminated"].to_pylist() == [True, False]
    assert after.score.contaminated == 1
    assert after.score.clean_score == after.table()["score"][1].as_py()
    assert "1 of 2 records shares" in str(scores.manifest.attributes["scores_markdown"])
    [check] = compare_suites(judged.workbench.store, scores)
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
