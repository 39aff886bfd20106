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

from dolly_assets.errors import DollyError
from dolly_assets.naming import epoch_key
from dolly_assets.planning.prices import Prices as PriceList
from dolly_assets.profiling.cost import Prices
from dolly_assets.profiling.device_table import peak_flops
from dolly_assets.profiling.devices import Hardware
from dolly_assets.profiling.figures import Circumstances
from dolly_assets.profiling.phases import PHASES_FILE, PhaseLog
from dolly_assets.profiling.report import build_report
from dolly_assets.profiling.sampler import DEVICES_FILE, Sampler
from dolly_assets.profiling.summary import SUMMARY_FILE, ReportSummary
from dolly_assets.storage.artifact import Artifact, ArtifactStore, artifact_name
from dolly_assets.worker.report import Report
from dolly_assets.worker.spec import Train, WorkerSpec

SAMPLE_SECONDS = 0.5
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
            self._name(epoch),
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
            summary = build_report(
                self._folder,
                title=title,
                started_at=span[0],
                ended_at=span[1],
                out=out,
                circumstances=self._circumstances(),
                previous=self._previous(epoch),
            )
        except Exception as error:  # noqa: BLE001 whatever it is, the checkpoint matters more
            out.mkdir(parents=True, exist_ok=True)
            (out / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            self._report.log(f"epoch {epoch} has no profile report: {error}")
            return {"verdict": f"the report could not be built: {error}"}
        return summary.figures()

    def _circumstances(self) -> Circumstances:
        """Prices and peaks of this machine's GPUs."""
        devices = Hardware.load(self._folder / DEVICES_FILE).devices
        if not devices:
            return Circumstances()
        prices = PriceList.read()
        return Circumstances(
            prices=Prices(gpu_hour_usd=prices.of_gpu_hour(devices[0].name), carbon_g_per_kwh=prices.carbon_g_per_kwh),
            peak_flops=peak_flops(devices[0].name, self._spec.family.recipe.precision),
        )

    def _previous(self, epoch: int) -> list[ReportSummary]:
        """The reports to compare with: of the epoch before, and of the same epoch in the training before this one."""
        same = [item for item in self._store.history(self._name(epoch)) if not self._is_of_this_training(item)]
        before = [item for item in self._store.history(self._name(epoch - 1)) if self._is_of_this_training(item)]
        found = before[:1] if epoch > 1 else []
        previous = []
        for artifact in [*found, *same[:1]]:
            try:
                previous.append(ReportSummary.read(artifact.local_file(SUMMARY_FILE).parent))
            except DollyError:
                self._report.log(f"{artifact.name} is not compared with: its report has no numbers of this version")
        return previous

    def _name(self, epoch: int) -> str:
        return artifact_name([self._spec.family.name, "gpu_profile"], self._task.dataset, epoch_key(epoch))

    def _is_of_this_training(self, artifact: Artifact) -> bool:
        return artifact.manifest.attributes.get("training") == self._task.training


def _top_of_ranks() -> int:
    """The process whose children are all the ranks of this machine."""
    return os.getppid() if "LOCAL_RANK" in os.environ else os.getpid()
