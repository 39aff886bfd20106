"""The working folders of runs here, `SCRATCH/RUN/FAMILY-TASK/`, and what is left of them."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg


def remove(folder: Path) -> None:
    """Remove a task's folder, and its run's if no other step uses it; a missing one is fine."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def keep_logs_only(folder: Path, but: Path | None = None) -> None:
    """Free the disk of what a failed worker left, but for its logs and one sub-folder."""
    for path in folder.glob("*"):
        if path.is_dir() and path != but:
            shutil.rmtree(path, ignore_errors=True)


def of_finished_runs(root: Path, instance: dg.DagsterInstance) -> Iterator[Path]:
    """Yield the folders of tasks whose runs are finished: a killed run cannot clean up."""
    for folder in root.glob("*"):
        run = instance.get_run_by_id(folder.name)
        if run is not None and run.is_finished:
            yield from folder.glob("*")
