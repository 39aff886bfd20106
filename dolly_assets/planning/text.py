"""A plan in words: one sentence, a table, a refusal."""

from collections.abc import Sequence
from typing import NamedTuple

from dolly_assets.core.markdown import markdown_table
from dolly_assets.core.text import count, dollars, duration, file_size, memory_size
from dolly_assets.planning.changes import Change
from dolly_assets.planning.plan import Plan
from dolly_assets.planning.scoring import ScoringPlan


class PlanRow(NamedTuple):
    """A line of the table: what is needed, how much, and where the number comes from."""

    what: str
    value: str
    source: str


def sentence(plan: Plan) -> str:
    """Return a plan in a sentence.

    Such as `8 × A100-SXM4-80GB: 41 GiB of 80 GiB per GPU, 3 h 20 min ± 25 % for 10 epochs, about
    $59`.
    """
    epochs = count(plan.epochs, "epoch")
    available = f" of {memory_size(plan.available_bytes)}" if plan.available_bytes else ""
    per = " per GPU" if plan.machines.kind == "gpu" else " of host memory"
    parts = [f"{memory_size(plan.needed_bytes)}{available}{per}"]
    if plan.seconds is not None:
        parts.append(f"{duration(plan.seconds)} {spread(plan)} for {epochs}")
    else:
        parts.append(f"time unknown for {epochs}")
    if plan.cost_usd is not None:
        cents_matter = plan.cost_usd < 10
        parts.append(
            f"about {dollars(plan.cost_usd) if cents_matter else f'${plan.cost_usd:,.0f}'}"
        )
    return f"{plan.machines.name}: {', '.join(parts)}"


def refusal(plan: Plan, changes: Sequence[Change]) -> str:
    """Return why a training does not fit, and the changes that would make it fit."""
    if plan.needed_bytes > (plan.available_bytes or 0):
        biggest = max(plan.device_memory, key=lambda part: part.size_bytes)
        per = "per GPU" if plan.machines.kind == "gpu" else "on this machine"
        problem = (
            f"it needs {memory_size(plan.needed_bytes)} {per}, which has "
            f"{memory_size(plan.available_bytes or 0)}; most of it is for {biggest.name}"
        )
    else:
        problem = (
            f"it needs {memory_size(plan.host_needed_bytes)} of host memory per machine, which has "
            f"{memory_size(plan.machines.host_bytes or 0)}"
        )
    ways = "; or ".join(f"{change.text} ({_brief(change.planned)})" for change in changes)
    return (
        f"the training does not fit on {plan.machines.name}: {problem}. "
        f"It would fit with {ways or 'a smaller model'}"
    )


def verdict(plan: Plan, changes: Sequence[Change]) -> str:
    """Return in a sentence whether a training fits."""
    if plan.fits is None:
        return (
            f"fit unknown: {plan.machines.name}; set compute.device to the kind of GPU, "
            "such as A100-SXM4-80GB"
        )
    if not plan.fits:
        return refusal(plan, changes)
    scoring = plan.scoring
    warning = f"; {_too_large(scoring)}" if scoring and scoring.fits is False else ""
    return f"it fits: {sentence(plan)}{warning}"


def _too_large(scoring: ScoringPlan) -> str:
    """Return why the trained epochs could not be scored, and what to do."""
    biggest = max(scoring.memory, key=lambda part: part.size_bytes)
    change = (
        f"set evaluation.batch_size to {scoring.largest_batch_size}"
        if scoring.largest_batch_size
        else "set compute.gpus to more"
    )
    return (
        f"but its epochs cannot be scored, which takes {memory_size(scoring.needed_bytes)} of "
        f"{memory_size(scoring.available_bytes or 0)}, most of it for {biggest.name}: {change}"
    )


def rows(plan: Plan) -> list[PlanRow]:
    """Return the table: what is needed, how much, and where the number comes from."""
    return [
        *_memory_rows(plan),
        *_scoring_rows(plan),
        *_storage_and_data_rows(plan),
        *_time_and_money_rows(plan),
        *(PlanRow("note", "", remark) for remark in plan.remarks),
    ]


def table_markdown(plan: Plan) -> str:
    """Return the table as Markdown, for Dagster."""
    return markdown_table(("what", "value", "source"), rows(plan))


def table_text(plan: Plan) -> str:
    """Return the table for a terminal."""
    lines = rows(plan)
    widths = [max(len(row[column]) for row in lines) for column in (0, 1)]
    return "\n".join(
        f"{row.what:<{widths[0]}}  {row.value:>{widths[1]}}  {row.source}" for row in lines
    )


def spread(plan: Plan) -> str:
    """Return how accurate the time is.

    Formulas are right within a factor of two; an epoch that was measured on such devices predicts
    the next one within a quarter.
    """
    return "± 25 %" if plan.is_time_measured else "(within a factor of 2)"


def _memory_rows(plan: Plan) -> list[PlanRow]:
    on_gpu = plan.machines.kind == "gpu"
    per = "GPU" if on_gpu else "rank"
    calibrated = (
        f"× {plan.memory_ratio:.2f}, measured in {plan.calibrated_by}"
        if plan.memory_ratio != 1
        else "sum"
    )
    available = memory_size(plan.available_bytes) if plan.available_bytes else "unknown"
    return [
        *(
            PlanRow(f"{part.name} per {per}", memory_size(part.size_bytes), part.source)
            for part in plan.device_memory
        ),
        PlanRow(
            f"memory per {per}" if on_gpu else "memory of all ranks",
            f"{memory_size(plan.needed_bytes)} of {available}",
            calibrated,
        ),
        *(
            PlanRow(f"host: {part.name}", memory_size(part.size_bytes), part.source)
            for part in plan.host_memory
        ),
    ]


def _scoring_rows(plan: Plan) -> list[PlanRow]:
    scoring = plan.scoring
    if scoring is None:
        return []
    available = memory_size(scoring.available_bytes) if scoring.available_bytes else "unknown"
    parts = ", ".join(f"{part.name} {memory_size(part.size_bytes)}" for part in scoring.memory)
    return [
        PlanRow("memory to score", f"{memory_size(scoring.needed_bytes)} of {available}", parts)
    ]


def _storage_and_data_rows(plan: Plan) -> list[PlanRow]:
    return [
        PlanRow(
            "disk",
            file_size(plan.scratch_bytes),
            "weights and two checkpoints, one of them being uploaded",
        ),
        PlanRow(
            "store", file_size(plan.store_bytes), f"{plan.epochs} × weights and training state"
        ),
        PlanRow("steps per epoch", f"{plan.steps_per_epoch:,}", "whole global batches"),
        PlanRow(
            "tokens per epoch",
            f"{plan.tokens_per_epoch:,}",
            f"{plan.labelled_tokens_per_epoch:,} of them labelled",
        ),
    ]


def _time_and_money_rows(plan: Plan) -> list[PlanRow]:
    if plan.seconds_per_epoch is not None and plan.seconds is not None:
        table = [
            PlanRow("time per epoch", duration(plan.seconds_per_epoch), plan.seconds_source),
            PlanRow(
                "time",
                f"{duration(plan.seconds)} {spread(plan)}",
                f"{count(plan.epochs, 'epoch')}, training only",
            ),
        ]
    else:
        table = [PlanRow("time", "unknown", plan.seconds_source)]
    cost = "unknown" if plan.cost_usd is None else dollars(plan.cost_usd)
    table.append(PlanRow("cost", cost, plan.cost_source))
    if plan.energy_kwh is not None:
        carbon = f", {plan.carbon_kg:,.1f} kg CO₂" if plan.carbon_kg is not None else ""
        table.append(PlanRow("energy", f"{plan.energy_kwh:,.1f} kWh{carbon}", plan.energy_source))
    return table


def _brief(plan: Plan) -> str:
    time = f", {duration(plan.seconds)}" if plan.seconds is not None else ""
    return f"{memory_size(plan.needed_bytes)}{time}"
