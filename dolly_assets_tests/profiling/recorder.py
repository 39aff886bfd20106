"""Writes what a sampler and the ranks of a training would."""

from pathlib import Path

from dolly_assets.hardware.visible_gpus import Device
from dolly_assets.profiling.analysis.figures import ReportContext
from dolly_assets.profiling.analysis.summary import ReportSummary
from dolly_assets.profiling.record.devices import DEVICES_FILE, Hardware
from dolly_assets.profiling.record.journal import Journal
from dolly_assets.profiling.record.sampler import SAMPLES_FILE
from dolly_assets.profiling.report.report import build_report
from dolly_assets.profiling.series.steplog import StepLog, StepRecord

START = 1_800_000_000.0
GPUS, WATTS, GPU_HOUR_USD = 2, 400, 3.0
EPOCH, ATTEMPT, PAUSE, STEP = 120, 40, 1000, 2  # seconds
LABELLED = 300  # tokens of a step, of each rank


class Recorder:
    """Writes what a sampler and the ranks of a training would."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._joules = folder, 0.0
        devices = [
            Device(index, "NVIDIA A100", f"GPU-{index}", 80 * 2**30) for index in range(GPUS)
        ]
        Hardware(tuple(devices), "", "host", 8, 64 * 2**30).write(folder / DEVICES_FILE)

    def record(self, start: float, seconds: int, *, epoch: int, waits: float = 0.0) -> None:
        """Samples each second, and steps in which rank 1 waits so long for data."""
        samples, logs = (
            Journal(self.folder / SAMPLES_FILE),
            [StepLog(self.folder, rank) for rank in range(GPUS)],
        )
        for second in range(seconds):
            self._joules += WATTS
            gpu = {
                "gpu_utilization_percent": 90,
                "memory_used_bytes": 2**30 * epoch,
                "energy_joules": self._joules,
            }
            gpus = {str(index): gpu for index in range(GPUS)}
            samples.append(
                {"time_seconds": start + second, "host": {"cpu_percent": 50}, "gpu": gpus}
            )
        for number in range(seconds // STEP):
            for rank, log in enumerate(logs):
                log.append(
                    _step(rank, start + number * STEP, number + 1, epoch, waits if rank else 0.0)
                )

    def report(self, start: float, seconds: int, known: ReportContext) -> ReportSummary:
        return build_report(
            self.folder,
            title="an epoch",
            started_at=start,
            ended_at=start + seconds,
            out=self.folder / f"out-{start}",
            context=known,
        )


def _step(rank: int, start: float, number: int, epoch: int, waits: float) -> StepRecord:
    return StepRecord(
        step=(epoch - 1) * EPOCH // STEP + number,
        epoch=epoch,
        rank=rank,
        started_at=start,
        ended_at=start + STEP,
        data_seconds=waits,
        forward_seconds=0.5,
        backward_seconds=STEP - 0.5 - waits,
        optimizer_seconds=0.0,
        wait_seconds=0.0,
        real_tokens=800,
        processed_tokens=1000,
        labelled_tokens=LABELLED,
        flops=1e12,
        peak_rank_memory_bytes=None,
    )
