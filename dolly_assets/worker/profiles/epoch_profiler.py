"""The device profile of a training: samples this machine, and publishes a report of each epoch.

It knows epochs as spans of time, and nothing of checkpoints.
"""

import os
import time
from types import TracebackType
from typing import Any, Self

from dolly_assets.profiling.analysis.step_figures import EpochTotals
from dolly_assets.profiling.record.devices import write_torch_versions
from dolly_assets.profiling.record.sampler import Sampler
from dolly_assets.profiling.series.phases import PHASES_FILE, PhaseLog
from dolly_assets.profiling.series.spans import EpochSpan, SpanLog
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.profiles.live import LiveReport
from dolly_assets.worker.profiles.profile_publisher import ProfileRequest, profile_dir
from dolly_assets.worker.profiles.report_process import ReportProcess
from dolly_assets.worker.spec import Train, WorkerSpec

SAMPLE_SECONDS = 0.5
Span = tuple[float, float]  # UTC epoch seconds


class EpochProfiler:
    """Samples for the duration of a `with` block.

    For rank 0 alone: one sampler sees the whole machine.

    Args:
        spec: What the worker does.
        store: Where profiles are published.
        messenger: Reports each profile.
    """

    def __init__(self, spec: WorkerSpec[Train], store: ArtifactStore, messenger: Messenger) -> None:
        self._spec, self._messenger = spec, messenger
        self._folder = profile_dir(spec)
        self._phases = PhaseLog(self._folder / PHASES_FILE)
        self._spans = SpanLog(self._folder)
        self._process = ReportProcess(spec, store, messenger)
        self._span, self._last_epoch = (
            EpochSpan(spec.task.epochs[0], time.time()),
            spec.task.epochs[-1],
        )

    def __enter__(self) -> Self:
        self._spans.write(self._span)
        process = self._process.start()
        self._sampler = Sampler(
            self._folder, SAMPLE_SECONDS, watch_pid=_top_of_ranks(), leave_out=(process,)
        )
        self._sampler.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sampler.__exit__(kind, error, trace)
        self._process.stop()
        if kind is None:
            LiveReport(self._spec).end()

    def loaded(self) -> None:
        """Record that the model is loaded, and the versions that torch runs with."""
        self.mark("load", self._span.started_at, time.time())
        write_torch_versions(self._folder)

    def mark(self, phase: str, started_at: float, ended_at: float, **details: Any) -> None:
        """Record what the training was doing between two times (UTC epoch seconds)."""
        self._phases.mark(phase, started_at, ended_at, **details)

    def end_span(self) -> Span:
        """Return what the next profile covers: from the end of the last one until now."""
        began, now = self._span.started_at, time.time()
        self._spans.write(EpochSpan(self._span.epoch, began, now))
        if self._span.epoch < self._last_epoch:
            self._span = EpochSpan(self._span.epoch + 1, now)
            self._spans.write(self._span)
        return began, now

    def publish(
        self,
        epoch: int,
        span: Span,
        attributes: dict[str, Any],
        totals: EpochTotals | None = None,
    ) -> None:
        """Publish the profile of an epoch.

        Args:
            epoch: Its number.
            span: What the profile covers.
            attributes: Of the artifact, besides the report's own figures.
            totals: What the training counted of the epoch; None for one that trains nothing.
        """
        request = ProfileRequest(
            epoch=epoch,
            started_at=span[0],
            ended_at=span[1],
            attributes=attributes,
            totals=totals,
        )
        self._messenger.emit_published(self._process.publish(request))


def _top_of_ranks() -> int:
    """Return the process whose children are all the ranks of this machine."""
    return os.getppid() if "LOCAL_RANK" in os.environ else os.getpid()
