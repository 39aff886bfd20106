"""The device profile of a training: samples this machine while it trains, and publishes a report for each epoch.

It knows epochs as spans of time, and nothing of checkpoints.
"""

import os
import shutil
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dolly_assets.naming import epoch_key
from dolly_assets.profiling.phases import PHASES_FILE, PhaseLog
from dolly_assets.profiling.report import build_report
from dolly_assets.profiling.sampler import Sampler
from dolly_assets.storage.artifact import ArtifactStore, artifact_name
from dolly_assets.worker.report import Report
from dolly_assets.worker.spec import Train, WorkerSpec

SAMPLE_SECONDS = 0.5
NOT_SHOWN = {"title", "started_at", "ended_at", "series", "phases"}  # of a profile's summary; they are in the artifact
Span = tuple[float, float]  # UTC epoch seconds


def profile_dir(spec: WorkerSpec) -> Path:
    """Where the sampler, the phases and every rank's step timings of this run go."""
    return spec.scratch_dir / "profile"


class EpochProfiler:
    """Samples for the length of a `with` block. For rank 0 alone: one sampler sees the whole machine.

    Args:
        spec: What the worker was told.
        store: Where profiles are published.
        report: Hears of each.
    """

    def __init__(self, spec: WorkerSpec, store: ArtifactStore, report: Report) -> None:
        assert isinstance(spec.task, Train)
        self._spec, self._task = spec, spec.task
        self._store, self._report = store, report
        self._folder = profile_dir(spec)
        self._phases = PhaseLog(self._folder / PHASES_FILE)
        self._sampler = Sampler(self._folder, interval_seconds=SAMPLE_SECONDS, watch_pid=_top_of_ranks())
        self._span_start = time.time()

    def __enter__(self) -> Self:
        self._sampler.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sampler.__exit__(kind, error, trace)

    def loaded(self) -> None:
        """The model is loaded; the first step is about to begin."""
        self.mark("load", self._span_start, time.time())

    def mark(self, phase: str, started_at: float, ended_at: float, **facts: Any) -> None:
        """Says what the training was doing between two times (UTC epoch seconds)."""
        self._phases.mark(phase, started_at, ended_at, **facts)

    def end_span(self) -> Span:
        """What the next profile covers: from where the last one ended until now."""
        span = (self._span_start, time.time())
        self._span_start = span[1]
        return span

    def publish(self, epoch: int, span: Span, facts: dict[str, Any]) -> None:
        """Publishes the profile of an epoch, with its figures and the facts given as attributes."""
        out = self._spec.scratch_dir / f"profile-{epoch_key(epoch)}"
        attributes = self._build_report(epoch, span, out)
        artifact = self._store.publish(
            artifact_name([self._spec.family.name, "gpu_profile"], self._task.dataset, epoch_key(epoch)),
            out,
            kind="gpu_profile",
            inputs={"tokenized_dataset": self._task.tokenized_dataset.digest},
            attributes={**attributes, **facts},
            made_by=self._spec.made_by,
        )
        shutil.rmtree(out)
        self._report.published(artifact)

    def _build_report(self, epoch: int, span: Span, out: Path) -> dict[str, Any]:
        """Writes the report and returns its figures. Without one, why: an epoch is not lost for want of a picture."""
        title = f"{self._spec.family.name} on {self._task.dataset}, epoch {epoch}"
        try:
            summary = build_report(self._folder, title=title, started_at=span[0], ended_at=span[1], out=out)
        except Exception as error:  # noqa: BLE001 whatever it is, the checkpoint matters more
            out.mkdir(parents=True, exist_ok=True)
            (out / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            self._report.log(f"epoch {epoch} has no profile report: {error}")
            return {"verdict": f"the report could not be built: {error}"}
        return summary.model_dump(exclude=NOT_SHOWN)


def _top_of_ranks() -> int:
    """The process whose children are all the ranks of this machine."""
    return os.getppid() if "LOCAL_RANK" in os.environ else os.getpid()
