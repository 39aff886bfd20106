"""Trainings to plan: the models and machines that the tests speak of."""

from typing import Any

import numpy as np

from dolly_assets.hardware.machine import Machines, named_gpus
from dolly_assets.planning.model_shape import ModelShape
from dolly_assets.planning.plan import PlanRequest
from dolly_assets.planning.rows import TrainingRows
from dolly_assets.training.recipe import Recipe

# https://huggingface.co/EleutherAI/gpt-j-6b/blob/main/config.json
GPT_J = ModelShape.of(
    {
        "model_type": "gptj",
        "n_embd": 4096,
        "n_layer": 28,
        "n_head": 16,
        "n_inner": None,
        "resid_pdrop": 0.0,
    },
    parameters=6_053_381_344,
    vocabulary_rows=50_400,
    tied_embeddings=False,
    name="gpt-j-6b",
)
GIB = 2**30


def recipe(**changed: Any) -> Recipe:
    """Databricks' settings of Dolly 1 (https://github.com/databrickslabs/dolly)."""
    settings: dict[str, Any] = {
        "epochs": 10,
        "max_length": 1024,
        "held_out_examples": 1000,
        "global_batch_size": 64,
        "micro_batch_size": 8,
        "learning_rate": 1e-5,
        "gradient_checkpointing": True,
    }
    return Recipe.model_validate({**settings, **changed})


def alpaca(
    rows: int = 5600, tokens: int = 1000, labels: int = 550, examples: int = 9
) -> TrainingRows:
    """52,000 examples of some 110 tokens in rows of 1,024."""
    return TrainingRows(
        row_tokens=np.full(rows, tokens),
        row_labels=np.full(rows, labels),
        lengths=np.full(rows * examples, tokens // examples),
    )


def gpus(device: str, count: int, nodes: int = 1, host_gib: int = 1000) -> Machines:
    return named_gpus(device, gpus=count, nodes=nodes, host_bytes=host_gib * GIB)


def job(machines: Machines, **changed: Any) -> PlanRequest:
    return PlanRequest(
        recipe=recipe(**changed), shape=GPT_J, data=alpaca(), machines=machines, epochs=10
    )
