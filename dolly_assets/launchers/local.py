"""Runs workers as processes of this machine: on all of its GPUs, or on CPU ranks without any.

Several ranks are started by `torchrun`, which chooses a free port and ends all ranks when one
fails. A worker never outlives its launcher: its stdin is a pipe from the launcher, and it exits
when that pipe is closed.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_ENV_VAR,
    DAGSTER_PIPES_MESSAGES_ENV_VAR,
    encode_param,
)

from dolly_assets.core.errors import ConfigurationError, DollyError, WorkerError, WorkerStopped
from dolly_assets.core.processes import END_WITH_STDIN
from dolly_assets.hardware.visible_gpus import visible_devices
from dolly_assets.launchers.interrupts import undisturbed
from dolly_assets.training.loop.out_of_memory import what_to_change
from dolly_assets.training.loop.stop import STOPPED
from dolly_assets.worker.messages import Failed, Log, Message, Stopped, Stopping, read_message
from dolly_assets.worker.spec import SPEC_FILE, Train, WorkerSpec

POLL_SECONDS = 0.1
GRACE_SECONDS = 15.0  # for a worker with nothing to save; one that saves reports how long it needs
ASKED_TO_STOP = {STOPPED, -signal.SIGTERM}  # the latter before it handles the signal
KILLED = {-signal.SIGKILL, 128 + signal.SIGKILL}  # the worker itself, one of its ranks


class LocalLauncher:
    """Runs a worker on this machine.

    Its output goes to our stderr and to `worker.log` in its scratch folder.
    """

    def run(self, spec: WorkerSpec, on_message: Callable[[Message], None]) -> None:
        """Run the worker of a spec to its end (see `dolly_assets.launchers.base.Launcher`)."""
        spec.scratch_dir.mkdir(parents=True, exist_ok=True)
        spec_path = spec.scratch_dir / SPEC_FILE
        spec_path.write_text(spec.model_dump_json())
        messages = _Tail(spec.scratch_dir / "messages.jsonl")
        output = _Tail(spec.scratch_dir / "worker.log")
        gpus = _count_gpus()
        ranks = _ranks(spec, gpus)
        with output.path.open("wb") as log:
            process = subprocess.Popen(
                _command(spec_path, ranks),
                env=_environment(messages.path, ranks, gpus),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the worker once, through us
            )
        worker = _Worker(process, messages, output, on_message, what_to_change(spec.family.recipe))
        try:
            while process.poll() is None:
                worker.follow()
                time.sleep(POLL_SECONDS)
        finally:
            with undisturbed():
                worker.end()
        if process.returncode:
            raise worker.error()


class _Worker:
    """A worker that was started, and the messages that it has sent."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        messages: "_Tail",
        output: "_Tail",
        on_message: Callable[[Message], None],
        less_memory: str,
    ) -> None:
        self._process = process
        self._messages, self._output = messages, output
        self._on_message = on_message
        self._less_memory, self._kernel_kills = less_memory, _kernel_kills()
        self._failures: list[Failed] = []
        self._stopped: Stopped | None = None
        self._end_by = math.inf  # monotonic seconds

    def follow(self) -> None:
        """Pass on new messages and output."""
        for line in self._messages.new_lines():
            if message := read_message(line):
                self._take(message)
        if any(failure.by_user for failure in self._failures):
            return  # torchrun's report of it would bury the one line that helps
        for line in self._output.new_lines():
            text = line.decode(errors="replace")
            print(text, file=sys.stderr, flush=True)  # noqa: T201 the step's compute log

    def _take(self, message: Message) -> None:
        if isinstance(message, Failed):
            self._failures.append(message)
        elif isinstance(message, Stopping):
            self._end_by = time.monotonic() + message.seconds
            self._on_message(Log(text=message.text))
        elif isinstance(message, Stopped):
            self._stopped = message
            self._on_message(Log(text=message.text))
        else:
            self._on_message(message)

    def end(self) -> None:
        """End the worker if it still runs: ask it to stop, wait while it saves, then kill it."""
        if self._process.poll() is None:
            self._end_by = time.monotonic() + GRACE_SECONDS
            self._process.send_signal(signal.SIGTERM)
            while self._process.poll() is None and time.monotonic() < self._end_by:
                # An error that ended the following is already being raised.
                with contextlib.suppress(Exception):
                    self.follow()
                time.sleep(POLL_SECONDS)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()  # ranks that outlived their parent exit now
        self.follow()

    def error(self) -> Exception:
        """Return why it has failed."""
        code, log = self._process.returncode, self._output.path
        if code in ASKED_TO_STOP:
            return WorkerStopped(
                self._stopped.text
                if self._stopped
                else "stopped before the first step was done; run it again"
            )
        if code in KILLED:
            return WorkerError(f"{self._killed()}; its log is {log}")
        if self._failures:
            first = self._failures[0]
            if first.by_user:
                return DollyError(first.error)
            return WorkerError(f"rank {first.rank}: {first.error}; the worker's log is {log}")
        return WorkerError(
            f"the worker exited with code {code} without a message; its log is {log}"
        )

    def _killed(self) -> str:
        before, now = self._kernel_kills, _kernel_kills()
        if before is not None and before == now:
            return "the worker was killed, but not by the kernel for lack of memory"
        return f"the worker was killed, probably because memory ran out: {self._less_memory}"


def _kernel_kills() -> int | None:
    """Return how many processes the kernel has killed for lack of memory; None if unknown."""
    with contextlib.suppress(OSError):  # not on Linux
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def _count_gpus() -> int:
    """Return how many CUDA devices a worker would see; of a MIG GPU, its visible instances."""
    return sum(device.cuda_device_count for device in visible_devices())


def _ranks(spec: WorkerSpec, gpus: int) -> int:
    """Return the number of processes to start.

    Raises:
        ConfigurationError: The family requests what one machine cannot provide.
    """
    if not isinstance(spec.task, Train) or spec.task.epochs == (0,):
        return 1
    if spec.family.compute.nodes > 1:
        raise ConfigurationError(
            f"{spec.family.name} requests {spec.family.compute.nodes} nodes, but training on this "
            "machine has one: set compute.nodes to 1 in its YAML"
        )
    return spec.family.ranks_on(gpus)


def _command(spec_path: Path, ranks: int) -> list[str]:
    worker = ["-m", "dolly_assets.worker", str(spec_path)]
    if ranks == 1:
        return [sys.executable, *worker]
    torchrun = ["-m", "dolly_assets.worker.torchrun", "--standalone", f"--nproc-per-node={ranks}"]
    return [sys.executable, *torchrun, *worker]


def _environment(messages: Path, ranks: int, gpus: int) -> Mapping[str, str]:
    environment = {
        **os.environ,
        DAGSTER_PIPES_CONTEXT_ENV_VAR: encode_param({"data": {"extras": {}}}),
        DAGSTER_PIPES_MESSAGES_ENV_VAR: encode_param({"path": str(messages)}),
        END_WITH_STDIN: "1",
        "PYTHONUNBUFFERED": "1",
    }
    if not gpus:
        environment["DS_ACCELERATOR"] = "cpu"
        environment["CUDA_VISIBLE_DEVICES"] = ""
    # torchrun would give each rank one thread, with which a GPU's offloaded optimizer is slow, too.
    if not gpus or "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // ranks))
    return environment


class _Tail:
    """Reads a growing file line by line; a line counts once its newline is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        path.unlink(missing_ok=True)

    def new_lines(self) -> Iterator[bytes]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole, newline, _ = data.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        yield from whole.splitlines()
