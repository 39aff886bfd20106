"""What would make a training fit that does not: each is planned again, and kept if it fits."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

from dolly_assets.core.errors import TrainingError
from dolly_assets.core.mappings import merged
from dolly_assets.planning.memory import offloaded
from dolly_assets.planning.plan import Plan, PlanRequest, plan
from dolly_assets.training.recipe import Recipe

MOST_CHANGES = 3
MOST_SETTINGS = 3  # that one change consists of
MOST_GPUS_PER_NODE, MOST_NODES = 8, 8
# Without the second setting DeepSpeed requires an optimizer of its own, which needs a compiler.
OFFLOAD = {
    "zero_optimization": {"offload_optimizer": {"device": "cpu"}},
    "zero_force_ds_cpu_optimizer": False,
}


class Change(NamedTuple):
    """A change that makes a training fit: what to write into the YAML, and the plan with it."""

    text: str
    planned: Plan


class _Setting(NamedTuple):
    key: str
    value: Any

    @property
    def text(self) -> str:
        return f"recipe.{self.key}: {_yaml(self.value)}"


def changes_that_fit(request: PlanRequest) -> tuple[Change, ...]:
    """Return up to three changes that make a training fit, the cheapest first.

    What keeps the speed comes before what costs time, and more machines come last. A change of
    several settings is included only if no part of it suffices.
    """
    sufficient: list[frozenset[str]] = []
    found: list[Change] = []
    settings = list(_settings(request))
    groups = (
        group for size in range(1, MOST_SETTINGS + 1) for group in combinations(settings, size)
    )
    for group in groups:
        texts = frozenset(setting.text for setting in group)
        has_two_of_a_key = len({setting.key for setting in group}) < len(group)
        if has_two_of_a_key or any(smaller <= texts for smaller in sufficient):
            continue
        planned = plan(replace(request, recipe=_with(request.recipe, group)))
        if planned.fits:
            sufficient.append(texts)
            found.append(Change(" and ".join(setting.text for setting in group), planned))
    more_gpus = next(_more_gpus(request), None)
    return (*found[: MOST_CHANGES - 1], more_gpus) if more_gpus else tuple(found[:MOST_CHANGES])


def _settings(request: PlanRequest) -> Iterator[_Setting]:
    """Yield the settings that save memory, the cheapest first."""
    recipe, machines = request.recipe, request.machines
    for size in dict.fromkeys((recipe.micro_batch_size // 2, 1)):
        if (
            0 < size < recipe.micro_batch_size
            and recipe.global_batch_size % (size * machines.ranks) == 0
        ):
            yield _Setting("micro_batch_size", size)
    if machines.kind == "gpu" and machines.ranks > 1:
        for stage in range(recipe.zero_stage + 1, 4):
            yield _Setting("zero_stage", stage)
    if not recipe.gradient_checkpointing:
        yield _Setting("gradient_checkpointing", True)
    if machines.kind == "gpu" and recipe.zero_stage > 0 and not offloaded(recipe, "optimizer"):
        yield _Setting("deepspeed", OFFLOAD)


def _more_gpus(request: PlanRequest) -> Iterator[Change]:
    """Yield numbers of GPUs on which the recipe fits unchanged: of one machine, then of more."""
    machines = request.machines
    if machines.kind != "gpu":
        return
    gpus, nodes = machines.ranks_per_node, machines.nodes
    more_gpus = [
        (more, nodes, f"compute.gpus: {more}") for more in range(gpus + 1, MOST_GPUS_PER_NODE + 1)
    ]
    more_nodes = [
        (gpus, more, f"compute.nodes: {more}") for more in range(nodes + 1, MOST_NODES + 1)
    ]
    for gpus_per_node, node_count, text in more_gpus + more_nodes:
        grown = machines.model_copy(
            update={"nodes": node_count, "ranks": gpus_per_node * node_count}
        )
        try:
            planned = plan(replace(request, machines=grown))
        except TrainingError:  # this number of ranks cannot share the global batch
            continue
        if planned.fits:
            yield Change(text, planned)


def _with(recipe: Recipe, settings: tuple[_Setting, ...]) -> Recipe:
    values = recipe.model_dump()
    for key, value in settings:
        values[key] = merged(values[key], value) if isinstance(value, dict) else value
    return Recipe.model_validate(values)


def _yaml(settings: Any) -> str:
    """Return settings as YAML on one line."""
    if isinstance(settings, dict):
        return "{" + ", ".join(f"{key}: {_yaml(value)}" for key, value in settings.items()) + "}"
    return str(settings).lower() if isinstance(settings, bool) else str(settings)
