"""The fine-tune with the real DeepSpeed and Trainer, on a GPT-NeoX of some thousand parameters."""

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.base_model import BaseModelConfig, prepare
from dolly_assets.training.checkpoint import layout
from dolly_assets.training.loop.meter import StepTotals
from dolly_assets.training.loop.request import FineTuneRequest
from dolly_assets.training.recipe import Recipe
from dolly_assets_tests.training.runs import Runs, jobs_of

pytestmark = pytest.mark.slow

GLOBAL_BATCH = 8
RECIPE = Recipe(
    epochs=3,
    max_length=64,
    held_out_examples=1,
    global_batch_size=GLOBAL_BATCH,
    micro_batch_size=8,
    learning_rate=1e-2,
    precision="fp32",
    zero_stage=1,
    seed=3,
)


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    runs = Runs()
    yield runs
    runs.close()


def prepared(folder: Path, dropout: float) -> Path:
    config = {
        "model_type": "gpt_neox",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "hidden_dropout": dropout,
        "attention_dropout": dropout,
    }
    base = BaseModelConfig.model_validate(
        {
            "untrained": {"config": config, "vocabulary_size": 320, "seed": 1},
            "license": "apache-2.0",
        }
    )
    prepare(
        base,
        special_tokens=["### End"],
        texts=lambda: ["a few words"],
        out=folder,
        log=lambda _: None,
    )
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("weights") / "plain", dropout=0.0)


@pytest.fixture(scope="module")
def weights_with_dropout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("weights") / "dropout", dropout=0.2)


def examples(count: int) -> pa.Table:
    """Random tokens; lengths and labelled parts differ much, so that a mean of means would show."""
    generator = random.Random(5)
    lengths = [generator.randint(4, 40) for _ in range(count)]
    return pa.table(
        {
            "row": pa.array(range(count), pa.int32()),
            "input_ids": pa.array(
                [[generator.randrange(256) for _ in range(length)] for length in lengths],
                pa.list_(pa.int32()),
            ),
            "prompt_length": pa.array(
                [generator.randint(1, length - 1) for length in lengths], pa.int32()
            ),
        }
    )


def conversations(count: int) -> pa.Table:
    """The same examples, of several labelled turns; some end with one, others with a prompt."""
    generator = random.Random(6)
    table = examples(count)
    runs = []
    for ids in table["input_ids"].to_pylist():
        ends = sorted(generator.sample(range(len(ids)), generator.randint(1, 4)))
        runs.append([end - start for start, end in pairwise([0, *ends, len(ids)])])
    return table.append_column("label_runs", pa.array(runs, pa.list_(pa.int32())))


def job(weights: Path, scratch: Path, **changes: Any) -> FineTuneRequest:
    whole = FineTuneRequest(
        recipe=RECIPE,
        weights=weights,
        train=examples(24),
        first_epoch=1,
        last_epoch=1,
        scratch=scratch / "trainer",
    )
    return replace(whole, **changes)


@pytest.mark.parametrize("data", [examples, conversations])
def test_the_loss_is_the_mean_over_the_labelled_tokens_of_the_global_batch(
    runs: Runs, weights: Path, tmp_path: Path, data: Callable[[int], pa.Table]
) -> None:
    """All data is one global batch: the first step's loss is computed example by example, too."""
    import torch
    from transformers import AutoModelForCausalLM

    train = data(GLOBAL_BATCH)
    [small] = jobs_of(job(weights, tmp_path, train=train), tmp_path, [(2, GLOBAL_BATCH)])
    outcome = runs.run(small)
    first, [work] = outcome.steps[0], outcome.work
    published_config, base_config = (
        json.loads((folder / "config.json").read_text())
        for folder in (small.scratch / "checkpoint-1", weights)
    )
    assert published_config.get("use_cache") == base_config.get("use_cache")

    model = AutoModelForCausalLM.from_pretrained(weights).eval()
    total = tokens = 0.0
    lines = []
    for place, example in enumerate(train.to_pylist()):
        ids = torch.tensor([example["input_ids"]])
        with torch.no_grad():
            log_probabilities = model(ids).logits[0, :-1].log_softmax(-1)
        after_prompt = [example["prompt_length"], ids.numel() - example["prompt_length"]]
        is_labelled = [
            bool(turn % 2)
            for turn, tokens_of_turn in enumerate(example.get("label_runs", after_prompt))
            for _ in range(tokens_of_turn)
        ]
        picked = log_probabilities.gather(1, ids[0, 1:, None])[torch.tensor(is_labelled[1:]), 0]
        total -= float(picked.sum())
        tokens += len(picked)
        lines.append((place, 1, len(picked), pytest.approx(-float(picked.sum()), rel=1e-5)))
    assert first["loss"] == pytest.approx(total / tokens, rel=1e-5)
    assert [tuple(line.values()) for line in outcome.examples] == lines
    assert work.labelled_tokens == tokens
    assert (
        work.real_tokens == work.processed_tokens == sum(map(len, train["input_ids"].to_pylist()))
    )
    assert (
        min(
            work.forward_seconds,
            work.backward_seconds,
            work.optimizer_seconds,
            work.peak_rank_memory_bytes,
        )
        > 0
    )


def test_the_loss_curve_is_the_same_for_every_micro_batch_and_number_of_ranks(
    runs: Runs, weights: Path, tmp_path: Path
) -> None:
    """Later losses depend on earlier gradients, so those are equal as well, but for rounding."""
    whole, *parts = jobs_of(
        job(weights, tmp_path, last_epoch=2, train=conversations(24)),
        tmp_path,
        [(8, 8), (4, 8), (2, 8)],
    )
    expected = runs.run(whole)
    assert len(expected.losses) == 6
    assert len({round(loss, 3) for loss in expected.losses}) > 3
    two_ranks = replace(parts[1], scratch=tmp_path / "ranks")
    for outcome in (*map(runs.run, parts), runs.run(two_ranks, ranks=2)):
        assert outcome.losses == pytest.approx(expected.losses, rel=1e-4)
        assert [[*line.values()] for line in outcome.examples] == [
            pytest.approx([*line.values()], rel=1e-4) for line in expected.examples
        ]
    for step, loss in enumerate(expected.losses, start=1):
        lines = [line for line in expected.examples if line["step"] == step]
        total, tokens = (sum(line[name] for line in lines) for name in ("loss", "labelled_tokens"))
        assert total / tokens == pytest.approx(loss, rel=1e-5)


def test_an_epoch_written_while_the_next_one_trains_holds_the_weights_of_its_last_step(
    runs: Runs, weights: Path, tmp_path: Path
) -> None:
    """As the optimizer left them: it keeps a copy of its own."""
    import torch
    from safetensors.torch import load_file

    at_once = job(weights, tmp_path / "at-once", last_epoch=2)
    expected = runs.run(at_once)
    late = replace(at_once, scratch=tmp_path / "late", save_seconds=0)
    assert runs.run(late, late=True).weights == expected.weights
    for job_, step in ((at_once, 3), (at_once, 6), (late, 3), (late, 6)):
        folder = job_.scratch / f"checkpoint-{step}"
        state = torch.load(
            folder / f"global_step{step}" / "zero_pp_rank_0_mp_rank_00_optim_states.pt",
            weights_only=False,
        )["optimizer_state_dict"]
        assert state["base_optimizer_state"]["state"][0]["step"] == step
        optimizers = torch.cat(
            [group.flatten() for group in state["single_partition_of_fp32_groups"]]
        )
        published = torch.cat(
            [tensor.flatten() for tensor in load_file(folder / "model.safetensors").values()]
        )
        assert torch.equal(optimizers.sort().values, published.sort().values)


def test_where_host_memory_is_too_small_for_a_copy_training_waits(
    runs: Runs, weights: Path, tmp_path: Path
) -> None:
    whole = job(weights, tmp_path / "copied")
    written = replace(whole, scratch=tmp_path / "written", copy_bytes=0)
    outcome = runs.run(written)
    assert outcome.weights == runs.run(whole).weights
    assert any("host memory is too small" in line for line in outcome.lines)


def test_epochs_2_and_3_resumed_give_the_weights_of_epochs_1_to_3_in_one_go(
    runs: Runs, weights_with_dropout: Path, tmp_path: Path
) -> None:
    """Through the published layout and back, with dropout and a falling learning rate."""
    recipe = RECIPE.model_copy(
        update={"scheduler": "linear", "warmup_steps": 2, "micro_batch_size": 4}
    )
    in_one_go = job(weights_with_dropout, tmp_path / "whole", recipe=recipe, last_epoch=3)
    expected = runs.run(in_one_go)
    assert expected.epochs == (1, 2, 3)

    resumed = replace(
        in_one_go,
        first_epoch=2,
        scratch=tmp_path / "resumed" / "trainer",
        resume_from=published(in_one_go.scratch / "checkpoint-3", tmp_path / "resumed", ranks=1),
    )
    outcome = runs.run(resumed)
    assert outcome.epochs == (2, 3)
    assert [step["step"] for step in outcome.steps] == [4, 5, 6, 7, 8, 9]
    assert outcome.losses == expected.losses[3:]
    assert [step["learning_rate"] for step in outcome.steps] == [
        step["learning_rate"] for step in expected.steps[3:]
    ]
    assert outcome.weights == {epoch: expected.weights[epoch] for epoch in (2, 3)}


def published(state: Path, into: Path, *, ranks: int) -> Path:
    """A folder to resume from, by way of the published layout."""
    for path, file in layout.split(state).items():
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, into / path)
    return layout.join(into / "state", into / "resume", ranks=ranks)


@pytest.mark.parametrize(
    ("ranks", "zero_stage"),
    [(1, 1), *(pytest.param(2, stage, marks=pytest.mark.long) for stage in (0, 2)), (2, 3)],
)
def test_stopped_in_the_middle_of_an_epoch_it_resumes_to_the_same_weights(
    runs: Runs, weights_with_dropout: Path, tmp_path: Path, ranks: int, zero_stage: int
) -> None:
    """With dropout, accumulation and a falling rate.

    One rank is asked, after step 4; all leave after step 5 of 6.
    """
    recipe = RECIPE.model_copy(
        update={
            "scheduler": "linear",
            "warmup_steps": 2,
            "micro_batch_size": 2,
            "zero_stage": zero_stage,
        }
    )
    whole = job(weights_with_dropout, tmp_path / "whole", recipe=recipe, last_epoch=2)
    expected = runs.run(whole, ranks=ranks)
    stopped = runs.run(
        replace(whole, scratch=tmp_path / "stopped", save_seconds=0), ranks=ranks, ask_at=4
    )
    assert stopped.stopped == "stopped at epoch 2, step 2 of 3; run again to resume"
    assert stopped.epochs == (1,)
    rest = replace(
        whole,
        first_epoch=2,
        scratch=tmp_path / "rest",
        resume_from=published(stopped.states[5], tmp_path / "published", ranks=ranks),
    )
    outcome = runs.run(rest, ranks=ranks)
    assert outcome.stopped is None
    assert list(map(learned, outcome.steps)) == list(map(learned, expected.steps[3:]))
    assert outcome.examples == expected.examples[24:]
    assert outcome.weights[2] == expected.weights[2]
    assert counted(outcome.work[-1]) == counted(expected.work[-1])


def learned(step: Mapping[str, Any]) -> dict[str, Any]:
    """What a step computed, without how long it took and what memory it needed."""
    timed = ("started_at", "ended_at", "peak_rank_memory_bytes")
    return {
        name: value
        for name, value in step.items()
        if name not in timed and not name.endswith("_seconds")
    }


def counted(work: StepTotals) -> tuple[float, ...]:
    return work.real_tokens, work.processed_tokens, work.labelled_tokens, work.flops


@pytest.mark.parametrize(
    ("before", "now", "zero_stage"),
    [(1, 2, 1), *(pytest.param(2, 1, stage, marks=pytest.mark.long) for stage in (0, 2))],
)
def test_on_another_number_of_ranks_it_resumes_within_rounding(
    runs: Runs, weights: Path, tmp_path: Path, before: int, now: int, zero_stage: int
) -> None:
    recipe = RECIPE.model_copy(
        update={
            "scheduler": "linear",
            "warmup_steps": 2,
            "micro_batch_size": 2,
            "zero_stage": zero_stage,
        }
    )
    whole = job(weights, tmp_path / "whole", recipe=recipe, last_epoch=2, save_seconds=0)
    expected = runs.run(whole, ranks=before)
    rest = replace(
        whole,
        first_epoch=2,
        scratch=tmp_path / "rest",
        resume_from=published(expected.states[4], tmp_path / "published", ranks=before),
        resume_ranks=before,
    )
    outcome = runs.run(rest, ranks=now)
    assert outcome.losses == pytest.approx(expected.losses[3:], rel=1e-5)
    assert [step["step"] for step in outcome.steps] == [4, 5, 6]
    assert [[*line.values()] for line in outcome.examples] == [
        pytest.approx([*line.values()], rel=1e-4) for line in expected.examples[24:]
    ]


def test_offloading_changes_where_it_is_computed_and_not_what(
    runs: Runs, weights: Path, tmp_path: Path
) -> None:
    moved = RECIPE.model_validate(
        {**RECIPE.model_dump(), "zero_stage": 3, "deepspeed": "offload_parameters"}
    )
    plain = runs.run(job(weights, tmp_path / "plain"))
    assert runs.run(job(weights, tmp_path / "moved", recipe=moved)).losses == pytest.approx(
        plain.losses, rel=1e-5
    )


def test_a_loss_that_is_not_finite_ends_the_training_before_its_epoch_is_handed_over(
    runs: Runs, weights: Path, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(
        TrainingError,
        match=r"loss of epoch 1 became (nan|inf) at step \d: lower recipe.learning_rate",
    ):
        runs.run(job(weights, tmp_path, recipe=recipe))
    assert not list((tmp_path / "trainer").glob("checkpoint-*"))


def test_fewer_examples_than_a_global_batch_are_refused_before_a_model_is_loaded(
    runs: Runs, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        TrainingError, match="7 training examples in 7 rows cannot fill one global batch of 8"
    ):
        runs.run(job(tmp_path / "no weights", tmp_path, train=examples(7)))


def test_what_does_not_fill_a_last_global_batch_waits_for_the_next_epochs_order(
    runs: Runs, weights: Path, tmp_path: Path
) -> None:
    outcome = runs.run(job(weights, tmp_path, train=examples(15), last_epoch=2))
    assert [step["step"] for step in outcome.steps] == [1, 2]
    assert all(math.isfinite(loss) for loss in outcome.losses)
