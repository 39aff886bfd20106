"""A plan in words: one sentence, a table, a refusal."""

from collections.abc import Sequence
from typing import NamedTuple

from dolly_assets.core.markdown import markdown_table
from dolly_assets.planning.changes import Change
from dolly_assets.planning.memory import MemoryPart
from dolly_assets.planning.plan import Plan


class PlanRow(NamedTuple):
    """A line of the table."""

    what: str
    value: str
    source: str


def sentence(plan: Plan) -> str:
    """Such as `8 × A100-SXM4-80GB: 41 GiB of 80 GiB per GPU, 3 h 20 min ± 25 % for 10 epochs, about $59`."""
    epochs = f"{plan.epochs} epoch{'s' if plan.epochs > 1 else ''}"
    of = f" of {size(plan.available_bytes)}" if plan.available_bytes else ""
    per = " per GPU" if plan.machines.kind == "gpu" else " of host memory"
    parts = [f"{size(plan.needed_bytes)}{of}{per}"]
    if plan.hours is not None:
        parts.append(f"{duration(plan.hours)} {spread(plan)} for {epochs}")
    else:
        parts.append(f"time unknown for {epochs}")
    if plan.cost_usd is not None:
        parts.append(
            f"about ${plan.cost_usd:,.0f}"
            if plan.cost_usd >= 10
            else f"about ${plan.cost_usd:,.2f}"
        )
    return f"{plan.machines.name}: {', '.join(parts)}"


def refusal(plan: Plan, changes: Sequence[Change]) -> str:
    """Why it cannot be trained so, and what would help; for a plan that does not fit."""
    if plan.needed_bytes > (plan.available_bytes or 0):
        biggest = max(plan.device_memory, key=lambda part: part.size_bytes)
        where = "each GPU" if plan.machines.kind == "gpu" else "this machine"
        problem = (
            f"{size(plan.needed_bytes)} are needed on {where}, which has {size(plan.available_bytes or 0)}; "
            f"most of it for {biggest.name}"
        )
    else:
        problem = (
            f"{size(plan.host_needed_bytes)} of host memory are needed on each machine, "
            f"which has {size(plan.machines.host_bytes or 0)}"
        )
    ways = "; or ".join(f"{change.text} ({_then(change.planned)})" for change in changes)
    return f"the training does not fit on {plan.machines.name}: {problem}. It would fit with {ways or 'a smaller model'}"


def verdict(plan: Plan, changes: Sequence[Change]) -> str:
    """Whether it fits, in a sentence."""
    if plan.fits is None:
        return f"not checked whether it fits: {plan.machines.name}; set compute.device, such as A100-SXM4-80GB"
    if plan.fits:
        return f"it fits: {sentence(plan)}"
    return refusal(plan, changes)


def rows(plan: Plan) -> list[PlanRow]:
    """The table: what, how much, and where the number is from."""
    on_gpu = plan.machines.kind == "gpu"
    per = "GPU" if on_gpu else "rank"
    table = [
        PlanRow(f"{part.name} per {per}", size(part.size_bytes), part.source)
        for part in plan.device_memory
    ]
    whole = f"memory per {per}" if on_gpu else "memory of all ranks"
    calibrated = (
        f"× {plan.memory_ratio:.2f}, measured in {plan.calibrated_by}"
        if plan.memory_ratio != 1
        else "sum"
    )
    available = size(plan.available_bytes) if plan.available_bytes else "unknown"
    table.append(PlanRow(whole, f"{size(plan.needed_bytes)} of {available}", calibrated))
    table += [
        PlanRow(f"host: {part.name}", size(part.size_bytes), part.source)
        for part in plan.host_memory
    ]
    table += [
        PlanRow(
            "disk",
            size(plan.scratch_bytes),
            "weights and two checkpoints, one of which is being uploaded",
        ),
        PlanRow("store", size(plan.store_bytes), f"{plan.epochs} × weights and training state"),
        PlanRow("steps per epoch", f"{plan.steps_per_epoch:,}", "whole global batches"),
        PlanRow(
            "tokens per epoch",
            f"{plan.tokens_per_epoch:,}",
            f"{plan.labelled_tokens_per_epoch:,} of them labelled",
        ),
    ]
    if plan.seconds_per_epoch is not None and plan.hours is not None:
        table.append(
            PlanRow("time per epoch", duration(plan.seconds_per_epoch / 3600), plan.seconds_source)
        )
        table.append(
            PlanRow(
                "time",
                f"{duration(plan.hours)} {spread(plan)}",
                f"{plan.epochs} epochs, training only",
            )
        )
    else:
        table.append(PlanRow("time", "unknown", plan.seconds_source))
    table.append(
        PlanRow(
            "cost",
            "unknown" if plan.cost_usd is None else f"${plan.cost_usd:,.2f}",
            plan.cost_source,
        )
    )
    if plan.energy_kwh is not None:
        carbon = f", {plan.carbon_kg:,.1f} kg CO₂" if plan.carbon_kg is not None else ""
        table.append(PlanRow("energy", f"{plan.energy_kwh:,.1f} kWh{carbon}", plan.energy_source))
    return table


def table_markdown(plan: Plan) -> str:
    """The table for Dagster."""
    return markdown_table(("what", "value", "from"), rows(plan))


def table_text(plan: Plan) -> str:
    """The table for a terminal."""
    lines = rows(plan)
    widths = [max(len(row[column]) for row in lines) for column in (0, 1)]
    return "\n".join(
        f"{row.what:<{widths[0]}}  {row.value:>{widths[1]}}  {row.source}" for row in lines
    )


def size(size_bytes: float) -> str:
    """Such as `41 GiB`, `1.2 GiB`, `35 MiB`."""
    if size_bytes < 2**20:
        return f"{size_bytes / 2**10:,.0f} KiB"
    if size_bytes < 2**30:
        return f"{size_bytes / 2**20:,.0f} MiB"
    gib = size_bytes / 2**30
    return f"{gib:,.0f} GiB" if gib >= 10 else f"{gib:.1f} GiB"


def duration(hours: float) -> str:
    """Such as `3 h 20 min`, `14 min`, `36 s`."""
    seconds = round(hours * 3600)
    if seconds < 10:
        return f"{hours * 3600:.1f} s"
    if seconds < 600:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def spread(plan: Plan) -> str:
    """How sure the time is: formulas are right within a factor of two, an epoch on such devices within a quarter."""
    return "± 25 %" if plan.is_time_measured else "(a factor of 2 more or less)"


def _then(plan: Plan) -> str:
    return f"{size(plan.needed_bytes)}" + (
        f", {duration(plan.hours)}" if plan.hours is not None else ""
    )


def memory_parts(parts: Sequence[MemoryPart]) -> dict[str, int]:
    """Name -> bytes."""
    return {part.name: part.size_bytes for part in parts}
