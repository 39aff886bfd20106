"""Memory of scoring: one process holds the model, on the GPUs of one machine or on its host.

It scores held-out examples and answers them, one after the other; the larger of both is planned.
Suites with longer records than the training's take more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.hardware.machine import Machines
from dolly_assets.planning.memory import (
    CUDA_BYTES,
    FRAGMENTATION,
    RANK_BYTES,
    MemoryPart,
    element_bytes,
)
from dolly_assets.planning.model_shape import ModelShape
from dolly_assets.training.recipe import Recipe

# The sizes that are tried when the largest batch that fits is looked for.
_BATCHES = [2**power for power in range(10, -1, -1)]


@dataclass(frozen=True)
class Scoring:
    """How a family is scored.

    Attributes:
        batch_size: Examples that are scored or answered at once.
        max_new_tokens: Length of the longest answer.
        batch_tokens: Tokens of a batch whose losses are computed, at most.
    """

    batch_size: int
    max_new_tokens: int
    batch_tokens: int


class ScoringPlan(Config):
    """What scoring will need. Sizes are in bytes, over all devices of a machine."""

    batch_size: int = Field(description="Examples that are scored or answered at once.")
    memory: tuple[MemoryPart, ...] = Field(description="Peak memory, from formulas.")
    available_bytes: int | None = Field(
        description="Memory of all GPUs of a machine, or of its host; None if it is not known."
    )
    largest_batch_size: int | None = Field(
        description="The largest power of two of examples that fits; None if none is known to."
    )

    @property
    def needed_bytes(self) -> int:
        """The sum of the formulas."""
        return _total(self.memory)

    @property
    def fits(self) -> bool | None:
        """Whether memory suffices; None if the available memory is not known."""
        if self.available_bytes is None:
            return None
        return self.needed_bytes <= self.available_bytes


def plan_scoring(
    shape: ModelShape, recipe: Recipe, scoring: Scoring, machines: Machines
) -> ScoringPlan:
    """Plan scoring on one of the machines that train.

    Args:
        shape: The model.
        recipe: How it is trained, which decides the type of its weights and the longest example.
        scoring: How it is scored.
        machines: Where it is trained, and scored as well.
    """
    on_gpu = machines.kind == "gpu"
    available = machines.host_bytes
    if on_gpu:
        available = machines.device_bytes and machines.device_bytes * machines.ranks_per_node
    smaller = (replace(scoring, batch_size=batch) for batch in _BATCHES)
    fitting = (
        each.batch_size
        for each in smaller
        if available and _total(_memory(shape, recipe, each, on_gpu=on_gpu)) <= available
    )
    return ScoringPlan(
        batch_size=scoring.batch_size,
        memory=_memory(shape, recipe, scoring, on_gpu=on_gpu),
        available_bytes=available,
        largest_batch_size=next(fitting, None),
    )


def _memory(
    shape: ModelShape, recipe: Recipe, scoring: Scoring, *, on_gpu: bool
) -> tuple[MemoryPart, ...]:
    size = element_bytes(recipe)
    weights = MemoryPart(
        name="weights",
        size_bytes=size * shape.parameters,
        source=f"{size} B × parameters",
    )
    stages = (_answering(shape, recipe, scoring), _losses(shape, recipe, scoring))
    parts = [weights, *max(stages, key=_total)]
    if not on_gpu:
        libraries = "0.75 GiB for libraries, assumed"
        return *parts, MemoryPart(name="process", size_bytes=RANK_BYTES, source=libraries)
    return (
        *parts,
        MemoryPart(name="CUDA context", size_bytes=CUDA_BYTES, source="1.25 GiB, from experience"),
        MemoryPart(
            name="fragmentation",
            size_bytes=int(FRAGMENTATION * _total(parts)),
            source="5 % of the parts above, assumed",
        ),
    )


def _answering(shape: ModelShape, recipe: Recipe, scoring: Scoring) -> list[MemoryPart]:
    """Return what generation holds besides the weights, for prompts of the longest example."""
    size, batch = element_bytes(recipe), scoring.batch_size
    tokens = recipe.max_length + scoring.max_new_tokens
    return [
        MemoryPart(
            name="keys and values",
            size_bytes=2 * size * shape.layers * shape.key_value * batch * tokens,
            source=f"2 × {size} B × {shape.layers} layers × {shape.key_value:,}, for {batch} "
            f"answers of {tokens:,} tokens",
        ),
        _activations(shape, recipe, batch * recipe.max_length),
        MemoryPart(
            name="logits",
            size_bytes=shape.vocabulary_rows * (size + 4) * batch,
            source=f"{batch} tokens × {shape.vocabulary_rows:,} rows, also in float32",
        ),
    ]


def _losses(shape: ModelShape, recipe: Recipe, scoring: Scoring) -> list[MemoryPart]:
    """Return what the losses of a batch hold besides the weights, if every token is labelled."""
    tokens = max(
        recipe.max_length, min(scoring.batch_tokens, scoring.batch_size * recipe.max_length)
    )
    return [
        _activations(shape, recipe, tokens),
        MemoryPart(
            name="logits",
            size_bytes=shape.vocabulary_rows * (element_bytes(recipe) + 8) * tokens,
            source=f"{tokens:,} labelled tokens × {shape.vocabulary_rows:,} rows, also in float32 "
            "with their probabilities",
        ),
    ]


def _activations(shape: ModelShape, recipe: Recipe, tokens: int) -> MemoryPart:
    """Return what one layer holds while it is computed: nothing is kept for a backward pass."""
    attention = 2 * shape.hidden + shape.attention + 2 * shape.key_value
    inner = (3 if shape.gated else 2) * shape.inner
    return MemoryPart(
        name="activations",
        size_bytes=element_bytes(recipe) * (2 * shape.hidden + max(attention, inner)) * tokens,
        source=f"one layer, for {tokens:,} tokens",
    )


def _total(parts: Sequence[MemoryPart]) -> int:
    return sum(part.size_bytes for part in parts)
