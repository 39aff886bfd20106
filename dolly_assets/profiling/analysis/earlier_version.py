"""Reads the numbers of reports that version 0.1 wrote: its names, and what it measured otherwise.

It knew interrupted trainings as "cut", and its tokens per second and FLOPs utilization were over
the time spent in steps. What it did not record stays unmeasured.
"""

from typing import Any

Document = dict[str, Any]

_UNUSED = ("max_gpu_utilization_percent", "max_cpu_percent", "peak_host_memory_bytes")


def upgrade_report(document: Document) -> Document:
    """Return the numbers of a report over a span under today's names."""
    if "cut" not in document:
        return document
    renamed = {"cut": "interrupted", "dips": "idle_spans"}
    kept = {key: value for key, value in document.items() if key not in _UNUSED}
    upgraded = {renamed.get(key, key): value for key, value in kept.items()}
    stalled = document["checkpoints"]
    upgraded["checkpoints"] = {
        "saving_seconds" if key == "stalled_seconds" else key: value
        for key, value in stalled.items()
    }
    if document["steps"]:
        upgraded["steps"] = _steps(document["steps"], document["phases"])
    return upgraded


def upgrade_training(document: Document) -> Document:
    """Return the numbers of a whole training under today's names."""
    if "cut_tries" not in document:
        return document
    renamed = {
        "cut_tries": "interrupted_attempts",
        "stalled_seconds": "saving_seconds",
        "tokens_per_second": "tokens_per_second_while_stepping",
    }
    upgraded = {renamed.get(key, key): value for key, value in document.items()}
    return {**upgraded, "tokens_per_second": None, "mfu": None}


def _steps(steps: Document, phases: list[Document]) -> Document:
    """Return the steps with the training time: the phase "train" ran from first step to last."""
    trained = [phase["seconds"] for phase in phases if phase["name"] == "train"]
    seconds = sum(trained) or steps["seconds"]
    while_training = steps["seconds"] / seconds if seconds else 1.0
    kept = {key: steps[key] for key in steps if key not in ("p50_seconds", "max_seconds")}
    return {
        **kept,
        "training_seconds": seconds,
        "tokens_per_second": steps["tokens_per_second"] * while_training,
        "tokens_per_second_while_stepping": steps["tokens_per_second"],
        "flops_per_second": steps["flops_per_second"] * while_training,
        "mfu": None if steps["mfu"] is None else steps["mfu"] * while_training,
        "ranks": [
            {
                "peak_rank_memory_bytes" if key == "memory_peak_bytes" else key: value
                for key, value in rank.items()
            }
            for rank in steps["ranks"]
        ],
    }
