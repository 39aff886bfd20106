"""Builds the reports of a training's epochs from what was recorded, and publishes them.

It knows epochs as spans of time. Who samples, and whether the training still runs, it doesn't know.
"""

import contextlib
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from dolly_assets.core.base import Config
from dolly_assets.core.errors import DollyError
from dolly_assets.core.names import epoch_key
from dolly_assets.hardware.device_table import peak_flops
from dolly_assets.profiling.analysis.figures import ReportContext
from dolly_assets.profiling.analysis.step_figures import EpochTotals
from dolly_assets.profiling.analysis.summary import Attempt, ReportSummary
from dolly_assets.profiling.record.devices import DEVICES_FILE, Hardware
from dolly_assets.profiling.report.report import build_report
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import ProfileAttributes
from dolly_assets.registry.kinds import GPU_PROFILE, INTERRUPTED_PROFILE, AssetKind
from dolly_assets.registry.profiles import summary_of
from dolly_assets.registry.queries import history, training_of
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.spec import SPEC_FILE, Train, WorkerSpec

PROFILE_FOLDER = "profile"


class ProfileRequest(Config):
    """An epoch whose report is wanted."""

    epoch: int = Field(description="Number of the epoch.")
    started_at: float = Field(description="UTC epoch seconds.")
    ended_at: float = Field(description="UTC epoch seconds.")
    attributes: dict[str, JsonValue] = Field(
        default={}, description="Attributes of the artifact besides the report's own figures."
    )
    totals: EpochTotals | None = Field(
        default=None, description="What the training counted of the epoch, if it is finished."
    )
    interrupted: str = Field(
        default="",
        description="When and how the training was interrupted in this epoch; else empty.",
    )


def profile_dir(spec: WorkerSpec) -> Path:
    """Return the folder of this run's samples, phases and steps of every rank."""
    return spec.scratch_dir / PROFILE_FOLDER


def spec_in(scratch: Path) -> WorkerSpec[Train] | None:
    """Return the specification of the training in a scratch folder, if it left something.

    None also if another version wrote it.
    """
    with contextlib.suppress(OSError, ValidationError):
        return WorkerSpec[Train].model_validate_json(
            (scratch / PROFILE_FOLDER / SPEC_FILE).read_bytes()
        )
    return None


class ProfilePublisher:
    """Builds and publishes.

    Args:
        spec: What the worker does.
        store: Where profiles are published.
        log: Writes a line to the log of the run.
    """

    def __init__(
        self, spec: WorkerSpec[Train], store: ArtifactStore, log: Callable[[str], None]
    ) -> None:
        self._spec, self._task, self._store, self._log = spec, spec.task, store, log
        self._folder = profile_dir(spec)

    def publish(self, request: ProfileRequest) -> Artifact:
        """Publish the report of an epoch, as interrupted if the training ended in it.

        If no report can be built, the artifact says why: the epoch is worth more than its report.
        """
        out = self._spec.scratch_dir / f"profile-{epoch_key(request.epoch)}"
        shutil.rmtree(out, ignore_errors=True)
        try:
            figures = self.build(request, out).figures()
        except Exception as error:  # noqa: BLE001 whatever it is, the checkpoint matters more
            out.mkdir(parents=True, exist_ok=True)
            (out / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            self._log(f"epoch {request.epoch} has no profile report: {error}")
            figures = {"verdict": f"the report could not be built: {error}"}
        kind = INTERRUPTED_PROFILE if request.interrupted else GPU_PROFILE
        artifact = self._store.publish(
            self.address(request.epoch, kind).name,
            out,
            kind=kind.name,
            descriptions=kind.descriptions,
            inputs={self._task.tokenized_dataset.name: self._task.tokenized_dataset.digest},
            attributes=ProfileAttributes.model_validate(
                {**figures, **request.attributes}
            ).as_json(),
            made_by=self._spec.made_by,
        )
        shutil.rmtree(out)
        return artifact

    def build(
        self, request: ProfileRequest, out: Path, refresh_seconds: int | None = None
    ) -> ReportSummary:
        """Write the report into a folder; with `refresh_seconds`, that of a running training."""
        previous = [] if refresh_seconds else self._previous(request.epoch)
        return build_report(
            self._folder,
            title=f"{self._spec.family.name} on {self._task.dataset}, epoch {request.epoch}",
            started_at=request.started_at,
            ended_at=request.ended_at,
            out=out,
            context=self._context(request, refresh_seconds),
            previous=previous,
        )

    def address(self, epoch: int, kind: AssetKind) -> ArtifactAddress:
        """Return the address of an epoch's profile."""
        return kind.address(self._spec.family.name, self._task.dataset, epoch)

    def _context(self, request: ProfileRequest, refresh_seconds: int | None) -> ReportContext:
        compute, prices = self._spec.family.compute, self._task.prices
        devices = Hardware.load(self._folder / DEVICES_FILE).devices
        price = compute.gpu_hour_usd
        if price is None and devices:
            price = prices.of_gpu_hour(devices[0].name)
        carbon = (
            prices.carbon_g_per_kwh
            if compute.carbon_g_per_kwh is None
            else compute.carbon_g_per_kwh
        )
        return ReportContext(
            gpu_hour_usd=price,
            carbon_g_per_kwh=carbon,
            peak_flops=peak_flops(devices[0].name, self._spec.family.recipe.precision)
            if devices
            else None,
            limits=self._spec.family.profile,
            attempts=self._attempts(request.epoch),
            totals=request.totals,
            interrupted=request.interrupted,
            refresh_seconds=refresh_seconds,
            cache_dir=self._spec.cache_dir,
        )

    def _attempts(self, epoch: int) -> list[Attempt]:
        """Return the interrupted attempts since this epoch was last finished, the oldest first."""
        whole = [
            item
            for item in history(self._store, self.address(epoch, GPU_PROFILE))
            if self._is_of_this_training(item)
        ]
        since = whole[0].manifest.created_at if whole else None
        interrupted = [
            item
            for item in history(self._store, self.address(epoch, INTERRUPTED_PROFILE))
            if self._is_of_this_training(item)
            and (since is None or item.manifest.created_at > since)
        ]
        return [
            attempt_of(summary)
            for item in reversed(interrupted)
            if (summary := self._summary(item))
        ]

    def _previous(self, epoch: int) -> list[ReportSummary]:
        """Return the reports to compare with.

        That of the epoch before, and that of the same epoch in the previous training.
        """
        same = [
            item
            for item in history(self._store, self.address(epoch, GPU_PROFILE))
            if not self._is_of_this_training(item)
        ]
        before = [
            item
            for item in history(self._store, self.address(epoch - 1, GPU_PROFILE))
            if self._is_of_this_training(item)
        ]
        found = before[:1] if epoch > 1 else []
        return [summary for item in [*found, *same[:1]] if (summary := self._summary(item))]

    def _summary(self, artifact: Artifact) -> ReportSummary | None:
        try:
            return summary_of(artifact)
        except DollyError:
            self._log(
                f"not compared with {artifact.name}: the numbers of its report are missing or were "
                "written by an unknown version"
            )
            return None

    def _is_of_this_training(self, artifact: Artifact) -> bool:
        return training_of(artifact) == self._task.training


def attempt_of(summary: ReportSummary) -> Attempt:
    """Return the report of an interrupted epoch as an attempt at it."""
    steps = summary.steps
    return Attempt(
        started_at=summary.started_at,
        ended_at=summary.ended_at,
        first_step=steps.first_step if steps else None,
        last_step=steps.last_step if steps else None,
        step_seconds=steps.seconds if steps else 0.0,
    )
