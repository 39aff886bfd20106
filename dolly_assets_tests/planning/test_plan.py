"""Plans: verdicts, changes that are planned again, calibration, and the two published runs."""

from dataclasses import replace

import pytest

from dolly_assets.core.errors import BaseModelError, ConfigurationError, TrainingError
from dolly_assets.hardware.machine import Machines
from dolly_assets.planning.calibration import Calibration, Measured, calibration
from dolly_assets.planning.changes import changes_that_fit
from dolly_assets.planning.model_shape import ModelShape
from dolly_assets.planning.plan import plan
from dolly_assets.planning.text import refusal, rows, sentence, verdict
from dolly_assets_tests.planning.jobs import GIB, GPT_J, alpaca, gpus, job


def test_the_sentence_states_memory_time_and_money() -> None:
    text = sentence(plan(job(gpus("A100-80GB", 8))))
    assert text.startswith("8 × A100-SXM4-80GB: ")
    assert "GiB of 80 GiB per GPU" in text
    assert "for 10 epochs" in text
    assert "$" in text


def test_every_number_has_a_source() -> None:
    assert all(row.source for row in rows(plan(job(gpus("A100-80GB", 8)))))


def test_what_cannot_fit_is_refused_with_three_changes_that_make_it_fit() -> None:
    """At ZeRO 2, each 24 GB GPU holds all of GPT-J's weights and the largest micro-batches."""
    asked = job(gpus("A10G", 8), zero_stage=2, gradient_checkpointing=False)
    made = plan(asked)
    assert made.fits is False
    changes = changes_that_fit(asked)
    assert len(changes) == 3
    assert all(change.planned.fits for change in changes)
    text = refusal(made, changes)
    assert all(change.text in text for change in changes)
    assert "GiB" in text


def test_the_cheapest_change_comes_first_and_alone_where_it_is_enough() -> None:
    asked = job(gpus("A100-40GB", 8), micro_batch_size=8, gradient_checkpointing=False)
    assert plan(asked).fits is False
    first = changes_that_fit(asked)[0]
    assert first.text.startswith("recipe.micro_batch_size: ")
    assert " and " not in first.text


def test_more_gpus_are_offered_where_nothing_else_helps_as_much() -> None:
    texts = [change.text for change in changes_that_fit(job(gpus("A100-40GB", 2)))]
    assert any(text.startswith("compute.gpus: ") for text in texts)


def test_nothing_helps_a_model_that_is_far_too_large() -> None:
    huge = GPT_J.model_copy(update={"parameters": 10**12})
    asked = replace(job(gpus("T4", 1)), shape=huge)
    assert changes_that_fit(asked) == ()
    assert "a smaller model" in refusal(plan(asked), ())


def test_an_unknown_device_gets_numbers_and_no_verdict() -> None:
    unknown = Machines(
        kind="gpu", device=None, nodes=1, ranks=8, device_bytes=None, host_bytes=None
    )
    made = plan(job(unknown))
    assert made.fits is None
    assert made.needed_bytes
    assert made.hours is None
    assert "fit unknown" in verdict(made, ())
    assert "compute.device" in verdict(made, ())


def test_host_memory_can_be_what_is_missing() -> None:
    made = plan(job(gpus("A100-80GB", 8, host_gib=16)))
    assert made.needed_bytes < (made.available_bytes or 0)
    assert made.fits is False
    assert "host memory" in refusal(made, ())


def test_ranks_that_cannot_share_the_batch_are_refused() -> None:
    with pytest.raises(TrainingError, match="cannot be shared by 3 ranks"):
        plan(job(gpus("A100-80GB", 3)))


def test_a_misspelt_device_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'A100-8GB' is unknown: expected one of V100.*H100"
    ):
        gpus("A100-8GB", 8)


def test_a_configuration_without_sizes_is_refused_by_name() -> None:
    with pytest.raises(BaseModelError, match=r"odd-model.*hidden_size"):
        ModelShape.of(
            {"width": 4}, parameters=10, vocabulary_rows=2, tied_embeddings=True, name="odd-model"
        )


def test_an_epoch_that_was_measured_decides_time_and_memory() -> None:
    asked = job(gpus("A100-80GB", 8))
    first = plan(asked)
    seconds, peak = 1234.0, int(1.3 * first.formula_bytes)
    epochs = [
        Measured(
            source="gpt_j/model_checkpoint/alpaca/01",
            training="t",
            device="NVIDIA A100-SXM4-80GB",
            ranks=8,
            seconds=seconds,
            peak_bytes=peak,
            joules=8 * 300 * seconds,
        )
    ]
    known = calibration(epochs, {"t": (first.operations_per_epoch, first.formula_bytes)})
    made = plan(replace(asked, calibration=known))
    assert made.seconds_per_epoch == pytest.approx(seconds)
    assert made.needed_bytes == pytest.approx(peak, abs=1)
    assert made.energy_kwh == pytest.approx(8 * 300 * 10 * seconds / 3.6e6)
    assert "± 25 %" in sentence(made)
    # Half as many GPUs take twice as long; other GPUs reach the same share of their peak.
    assert plan(
        replace(asked, machines=gpus("A100-80GB", 4), calibration=known)
    ).seconds_per_epoch == pytest.approx(2 * seconds)
    other = plan(replace(asked, machines=gpus("H100", 8), calibration=known))
    assert other.seconds_per_epoch == pytest.approx(seconds * 312 / 989.5)
    assert other.memory_ratio == 1
    assert "± 25 %" not in sentence(other)
    # The same recipe with recomputation turned off needs less arithmetic than what was measured.
    lighter = replace(
        asked, recipe=asked.recipe.model_copy(update={"gradient_checkpointing": False})
    )
    assert plan(replace(lighter, calibration=known)).seconds_per_epoch == pytest.approx(
        seconds * 3 / 4
    )


def test_an_epoch_without_a_known_plan_is_ignored() -> None:
    epoch = Measured(
        source="e", training="t", device=None, ranks=1, seconds=1, peak_bytes=None, joules=None
    )
    assert calibration([epoch], {"other": (1.0, 1)}) is None


def test_cpu_ranks_share_their_cores() -> None:
    two = Machines(
        kind="cpu", device=None, nodes=1, ranks=2, device_bytes=None, host_bytes=64 * GIB
    )
    known = Calibration(
        source="e", device=None, ranks=1, seconds_per_operation=1e-11, memory_ratio=None, watts=None
    )
    made = plan(replace(job(two), calibration=known))
    assert made.seconds_per_epoch == pytest.approx(made.operations_per_epoch * 1e-11)
    assert made.cost_usd is None
    assert made.energy_kwh is None


# Two published fine-tunes of GPT-J on Alpaca: 52,002 examples of some 110 tokens, one in each row,
# padded.
PUBLISHED = {
    # device, GPUs, epochs: hours, dollars
    ("V100-32GB", 8, 1): (3.25, 100),
    ("A100-80GB", 3, 10): (30.0, 200),
}


@pytest.mark.parametrize(("device", "count", "epochs"), PUBLISHED)
def test_the_published_runs_cost_what_their_hours_cost_and_used_little_of_their_gpus(
    device: str, count: int, epochs: int
) -> None:
    hours, dollars = PUBLISHED[device, count, epochs]
    precision = "fp16" if device.startswith("V100") else "bf16"
    unpacked = alpaca(rows=51_002, tokens=110, labels=60, examples=1)
    asked = replace(
        job(gpus(device, count), precision=precision, global_batch_size=8 * count),
        data=unpacked,
        epochs=epochs,
    )
    made = plan(asked)
    assert made.hours
    assert made.cost_usd
    # The prices explain the dollars once the hours are theirs.
    assert made.cost_usd / made.hours * hours == pytest.approx(dollars, rel=0.05)
    share = (
        made.operations_per_epoch
        * epochs
        / (hours * 3600)
        / (made.machines.peak_flops(precision) or 1)
    )
    assert 0.02 < share < 0.05  # the rest went into padding and waiting
