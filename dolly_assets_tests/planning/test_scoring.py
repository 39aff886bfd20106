"""Whether a trained model can be scored on the machines that trained it."""

from dataclasses import replace

import pytest

from dolly_assets.core.text import memory_size
from dolly_assets.planning.plan import Plan, PlanRequest, plan
from dolly_assets.planning.scoring import Scoring, ScoringPlan
from dolly_assets.planning.text import table_text, verdict
from dolly_assets_tests.planning.jobs import GIB, GPT_J, gpus, job


def request(batch_size: int, device: str = "A100-80GB", count: int = 8) -> PlanRequest:
    scoring = Scoring(batch_size=batch_size, max_new_tokens=256, batch_tokens=4096)
    return replace(job(gpus(device, count)), scoring=scoring)


def planned(batch_size: int, device: str = "A100-80GB", count: int = 8) -> ScoringPlan:
    scoring = plan(request(batch_size, device, count)).scoring
    assert scoring
    return scoring


def test_keys_and_values_are_those_of_every_layer_and_token() -> None:
    cache = next(part for part in planned(64).memory if part.name == "keys and values")
    # 2 (keys and values) × 2 B (bf16) × 28 layers × 4,096 × 64 answers × (1,024 + 256) tokens
    assert cache.size_bytes == 2 * 2 * 28 * 4096 * 64 * 1280


def test_small_batches_are_decided_by_the_losses_and_their_logits() -> None:
    short = Scoring(batch_size=2, max_new_tokens=16, batch_tokens=4096)
    made = plan(replace(request(2), scoring=short)).scoring
    assert made
    assert "keys and values" not in [part.name for part in made.memory]
    logits = next(part for part in made.memory if part.name == "logits")
    assert logits.size_bytes == 50_400 * 10 * 2048


def test_the_memory_is_that_of_all_gpus_of_one_machine() -> None:
    assert planned(64).available_bytes == pytest.approx(8 * 80 * GIB, rel=0.02)
    assert planned(64).fits


def test_what_trains_and_cannot_be_scored_is_said_with_the_batch_size_that_can() -> None:
    made = plan(request(1024, count=2))
    assert made.fits
    assert made.scoring
    assert made.scoring.fits is False
    largest = made.scoring.largest_batch_size
    assert largest
    text = verdict(made, ())
    assert text.startswith("it fits: 2 × A100")
    assert f"cannot be scored, which takes {memory_size(made.scoring.needed_bytes)} of" in text
    assert text.endswith(f"most of it for keys and values: set evaluation.batch_size to {largest}")
    assert planned(largest, count=2).fits
    assert planned(2 * largest, count=2).fits is False


def test_nothing_is_claimed_of_unknown_gpus() -> None:
    asked = request(64)
    unknown = asked.machines.model_copy(update={"device": None, "device_bytes": None})
    made = plan(replace(asked, machines=unknown))
    assert made.scoring
    assert made.scoring.fits is None
    assert "of unknown" in table_text(made)


def test_a_model_that_no_batch_makes_small_enough_asks_for_gpus() -> None:
    huge = GPT_J.model_copy(update={"parameters": 10**12})
    made = plan(replace(request(16), shape=huge))
    assert made.scoring
    assert made.scoring.largest_batch_size is None


def test_a_plan_of_an_earlier_version_has_no_scoring() -> None:
    made = plan(job(gpus("A100-80GB", 8)))
    document = made.model_dump(exclude={"scoring"})
    assert Plan.model_validate(document).scoring is None
