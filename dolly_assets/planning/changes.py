"""What would make a training fit that does not: each change is planned again, and those that help are told."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

from dolly_assets.core.errors import TrainingError
from dolly_assets.planning.memory import offloaded
from dolly_assets.planning.plan import Plan, PlanRequest, plan
from dolly_assets.training.recipe import Recipe

TOLD = 3
MOST_SETTINGS = 3  # that one change is made of
GPUS_OF_A_MACHINE, MOST_MACHINES = 8, 8
# Else DeepSpeed insists on an optimizer of its own, which needs a compiler.
OFFLOAD = {
    "zero_optimization": {"offload_optimizer": {"device": "cpu"}},
    "zero_force_ds_cpu_optimizer": False,
}


class Change(NamedTuple):
    """A way to make it fit: what to write into the YAML, and the plan then."""

    text: str
    planned: Plan


class _Setting(NamedTuple):
    key: str
    value: Any

    @property
    def text(self) -> str:
        return f"recipe.{self.key}: {_yaml(self.value)}"


def changes_that_fit(job: PlanRequest) -> tuple[Change, ...]:
    """Up to three, the cheapest first: what keeps the speed before what costs time, and more machines last.

    A change of several settings is told only if no part of it is enough.
    """
    enough: list[frozenset[str]] = []
    found: list[Change] = []
    settings = list(_settings(job))
    for some in (
        some for size in range(1, MOST_SETTINGS + 1) for some in combinations(settings, size)
    ):
        together = frozenset(setting.text for setting in some)
        if len({setting.key for setting in some}) < len(some) or any(
            known <= together for known in enough
        ):
            continue
        planned = plan(replace(job, recipe=_with(job.recipe, some)))
        if planned.fits:
            enough.append(together)
            found.append(Change(" and ".join(setting.text for setting in some), planned))
    more = next(_more_gpus(job), None)
    return (*found[: TOLD - 1], more) if more else tuple(found[:TOLD])


def _settings(job: PlanRequest) -> Iterator[_Setting]:
    """Those that save memory, the cheapest first."""
    recipe, machines = job.recipe, job.machines
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


def _more_gpus(job: PlanRequest) -> Iterator[Change]:
    """On which it fits as it is, the fewest first: of one machine, then of more machines."""
    machines = job.machines
    if machines.kind != "gpu":
        return
    gpus, nodes = machines.ranks_per_node, machines.nodes
    wider = [
        (more, nodes, f"compute.gpus: {more}") for more in range(gpus + 1, GPUS_OF_A_MACHINE + 1)
    ]
    longer = [
        (gpus, more, f"compute.nodes: {more}") for more in range(nodes + 1, MOST_MACHINES + 1)
    ]
    for each, of, text in wider + longer:
        grown = machines.model_copy(update={"nodes": of, "ranks": each * of})
        try:
            planned = plan(replace(job, machines=grown))
        except TrainingError:  # so many cannot share the global batch
            continue
        if planned.fits:
            yield Change(text, planned)


def _with(recipe: Recipe, settings: tuple[_Setting, ...]) -> Recipe:
    values = recipe.model_dump()
    for key, value in settings:
        values[key] = _laid_over(values[key], value) if isinstance(value, dict) else value
    return Recipe.model_validate(values)


def _laid_over(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _laid_over(base[key], value)
        for key, value in extra.items()
        if isinstance(base.get(key), dict)
    }
    return {**base, **extra, **both}


def _yaml(settings: Any) -> str:
    """On one line, as it would be written in YAML."""
    if isinstance(settings, dict):
        return "{" + ", ".join(f"{key}: {_yaml(value)}" for key, value in settings.items()) + "}"
    return str(settings).lower() if isinstance(settings, bool) else str(settings)
