"""The device profile of a training: samples this machine while it trains, and has a report published for each epoch.

It knows epochs as spans of time, and nothing of checkpoints.
"""

import os
import time
from types import TracebackType
from typing import Any, Self

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
    """Samples for the length of a `with` block.

    For rank 0 alone: one sampler sees the whole machine.

    Args:
        spec: What the worker was told.
        store: Where profiles are published.
        report: Hears of each.
    """

    def __init__(self, spec: WorkerSpec, store: ArtifactStore, report: Messenger) -> None:
        assert isinstance(spec.task, Train)
        self._spec, self._report = spec, report
        self._folder = profile_dir(spec)
        self._phases = PhaseLog(self._folder / PHASES_FILE)
        self._spans = SpanLog(self._folder)
        self._reporter = ReportProcess(spec, store, report)
        self._span, self._last_epoch = (
            EpochSpan(spec.task.epochs[0], time.time()),
            spec.task.epochs[-1],
        )

    def __enter__(self) -> Self:
        self._spans.write(self._span)
        reporter = self._reporter.start()
        self._sampler = Sampler(
            self._folder, SAMPLE_SECONDS, watch_pid=_top_of_ranks(), leave_out=(reporter,)
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
        self._reporter.stop()
        if kind is None:
            LiveReport(self._spec).end()

    def loaded(self) -> None:
        """The model is loaded; the first step is about to begin."""
        self.mark("load", self._span.started_at, time.time())

    def mark(self, phase: str, started_at: float, ended_at: float, **facts: Any) -> None:
        """Says what the training was doing between two times (UTC epoch seconds)."""
        self._phases.mark(phase, started_at, ended_at, **facts)

    def end_span(self) -> Span:
        """What the next profile covers: from where the last one ended until now."""
        began, now = self._span.started_at, time.time()
        self._spans.write(EpochSpan(self._span.epoch, began, now))
        if self._span.epoch < self._last_epoch:
            self._span = EpochSpan(self._span.epoch + 1, now)
            self._spans.write(self._span)
        return began, now

    def publish(self, epoch: int, span: Span, facts: dict[str, Any]) -> None:
        """Publishes the profile of an epoch, with its figures and the facts given as attributes."""
        request = ProfileRequest(epoch=epoch, started_at=span[0], ended_at=span[1], facts=facts)
        self._report.emit_published(self._reporter.publish(request))


def _top_of_ranks() -> int:
    """The process whose children are all the ranks of this machine."""
    return os.getppid() if "LOCAL_RANK" in os.environ else os.getpid()
