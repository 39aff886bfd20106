"""How to train a base model on given GPUs: the first way that fits by the plan.

Ways are in the order in which they cost little: all weights before an adapter, few exchanges
before many, no recomputation before some, and the largest micro-batch of each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dolly_assets.core.errors import ConfigurationError, TrainingError
from dolly_assets.hardware.device_table import device_spec
from dolly_assets.hardware.machine import Machines, named_gpus
from dolly_assets.planning.changes import changes_that_fit
from dolly_assets.planning.plan import Plan, PlanRequest, plan
from dolly_assets.planning.prices import Prices
from dolly_assets.planning.rows import TrainingRows
from dolly_assets.planning.text import refusal
from dolly_assets.scaffolding.bases import Base
from dolly_assets.training.recipe import Recipe

# What is planned before there is a dataset: full rows, 6 in 10 tokens labelled.
PLANNED_TOKENS = 10_000_000
LABELLED = 0.6
EPOCHS = 3
_LONGEST = 2048
_ROWS_PER_STEP = 16
_MICRO_BATCHES = (8, 4, 2, 1)
_ANY_HOST_BYTES = 2**50  # it is requested as the plan needs it


@dataclass(frozen=True)
class Choice:
    """A recipe that fits, and its plan."""

    recipe: Recipe
    settings: dict[str, Any]
    plan: Plan


def choose(base: Base, *, device: str, gpus: int, prices: Prices) -> Choice:
    """Return the first way to train a base model that fits.

    Raises:
        ConfigurationError: The device is not known.
        TrainingError: No way fits; the text is the plan's.
    """
    machines = named_gpus(device, gpus=gpus, nodes=1, host_bytes=_ANY_HOST_BYTES)
    request = None
    for settings in _ways(base, machines):
        recipe = Recipe.model_validate(settings)
        request = PlanRequest(
            recipe=recipe,
            shape=base.shape,
            data=_rows(recipe.max_length),
            machines=machines,
            epochs=EPOCHS,
            prices=prices,
        )
        planned = plan(request)
        if planned.fits:
            return Choice(recipe, settings, planned)
    if request is None:
        raise ConfigurationError(f"{gpus} GPUs: expected at least one")
    text = refusal(plan(request), changes_that_fit(request))
    raise TrainingError(f"{base.source} is too large, even with LoRA: {text}")


def _ways(base: Base, machines: Machines) -> Iterator[dict[str, Any]]:
    """Yield the settings of recipes, the best first."""
    common = {
        "epochs": EPOCHS,
        "max_length": min(_LONGEST, base.shape.context.tokens if base.shape.context else _LONGEST),
        "held_out_examples": 200,
        "precision": _precision(machines.device or ""),
        **({} if base.packing else {"packing": False}),
    }
    stages = (1, 2, 3) if machines.ranks > 1 else (1,)
    lora = {"rank": 16, "alpha": 32}
    kinds = [{"learning_rate": 1e-5}, {"learning_rate": 2e-4, "lora": lora}]
    rows = machines.ranks * -(-_ROWS_PER_STEP // machines.ranks)
    for kind in kinds:
        for stage in stages:
            for checkpointing in ({}, {"gradient_checkpointing": True}):
                for micro in _MICRO_BATCHES:
                    if rows // machines.ranks % micro == 0:
                        yield {
                            **common,
                            "global_batch_size": rows,
                            "micro_batch_size": micro,
                            "warmup_steps": 20,
                            "zero_stage": stage,
                            **checkpointing,
                            **kind,
                        }


def _precision(device: str) -> str:
    """Return the fastest format that needs no more than half of float32."""
    spec = device_spec(device)
    known = spec.teraflops if spec else {}
    return next((name for name in ("bf16", "fp16") if name in known), "fp32")


def _rows(max_length: int) -> TrainingRows:
    rows = max(64, PLANNED_TOKENS // max_length)
    return TrainingRows(
        row_tokens=np.full(rows, max_length),
        row_labels=np.full(rows, int(LABELLED * max_length)),
        lengths=np.full(4 * rows, max_length // 4),
    )
