"""Runs workers as processes of this machine: on all of its GPUs, or on CPU ranks where there is none.

Several ranks are started by `torchrun`, which finds a free port by itself and ends all ranks when one fails. A worker
never outlives whoever launched it: it holds the reading end of a pipe, and ends when that pipe is closed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, DAGSTER_PIPES_MESSAGES_ENV_VAR, encode_param

from dolly_assets.errors import ConfigurationError, DollyError, WorkerError
from dolly_assets.family import ModelFamily
from dolly_assets.profiling.devices import find_devices
from dolly_assets.worker.report import MESSAGE, Failed, Message
from dolly_assets.worker.spec import Train, WorkerSpec

POLL_SECONDS = 0.1
GRACE_SECONDS = 15.0


class LocalLauncher:
    """Runs a worker on this machine. What it writes goes to our stderr and to its scratch's `worker.log`."""

    def run(self, spec: WorkerSpec, on_message: Callable[[Message], None]) -> None:
        """Runs the worker of a spec to its end (see `dolly_assets.compute.launcher.Launcher`)."""
        spec.scratch_dir.mkdir(parents=True, exist_ok=True)
        spec_path = spec.scratch_dir / "spec.json"
        spec_path.write_text(spec.model_dump_json())
        messages = _Tail(spec.scratch_dir / "messages.jsonl")
        output = _Tail(spec.scratch_dir / "worker.log")
        gpus = count_gpus()
        ranks = _ranks(spec, gpus)
        failures: list[Failed] = []

        def follow() -> None:
            for line in messages.new_lines():
                message = _parse(line)
                if isinstance(message, Failed):
                    failures.append(message)
                elif message is not None:
                    on_message(message)
            if any(failure.by_user for failure in failures):
                return  # torchrun's report of it would hide the one line that helps
            for line in output.new_lines():
                print(line, file=sys.stderr, flush=True)  # noqa: T201 the step's compute log

        with output.path.open("wb") as log:
            process = subprocess.Popen(
                _command(spec_path, ranks),
                env=_environment(messages.path, ranks, gpus),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the worker through us, once
            )
        try:
            while process.poll() is None:
                follow()
                time.sleep(POLL_SECONDS)
        finally:
            _end(process)
            follow()
        if process.returncode:
            raise _error(process.returncode, failures, output.path)


def count_gpus() -> int:
    """GPUs that a worker would see, honouring CUDA_VISIBLE_DEVICES."""
    devices, _ = find_devices()
    return len(devices)


def _ranks(spec: WorkerSpec, gpus: int) -> int:
    """Processes to start; raises if the family asks for what one machine cannot give."""
    if not isinstance(spec.task, Train) or spec.task.epochs == (0,):
        return 1
    if spec.family.compute.nodes > 1:
        raise ConfigurationError(
            f"{spec.family.name} asks for {spec.family.compute.nodes} nodes, and the local environment has one: "
            "set compute.nodes to 1 in its YAML"
        )
    return ranks_for(spec.family, gpus)


def ranks_for(family: ModelFamily, gpus: int) -> int:
    """Processes that train a family on a machine with that many GPUs.

    Raises:
        ConfigurationError: The family asks for more GPUs than there are.
        TrainingError: Its global batch cannot be shared by the ranks that it asks for.
    """
    asked = family.compute.gpus
    if asked > gpus:
        raise ConfigurationError(
            f"{family.name} asks for {asked} GPUs and this machine has {gpus}: set compute.gpus in its YAML to at most "
            f"{gpus}; 0 takes what is there, the CPU too"
        )
    if asked or not gpus:
        ranks = asked or family.compute.cpu_ranks
        family.recipe.accumulation_steps(ranks)
        return ranks
    micro_batches = family.recipe.global_batch_size // family.recipe.micro_batch_size
    return max(ranks for ranks in range(1, gpus + 1) if micro_batches % ranks == 0)


def _command(spec_path: Path, ranks: int) -> list[str]:
    worker = ["-m", "dolly_assets.worker", str(spec_path)]
    if ranks == 1:
        return [sys.executable, *worker]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [sys.executable, *torchrun, *worker]


def _environment(messages: Path, ranks: int, gpus: int) -> Mapping[str, str]:
    environment = {
        **os.environ,
        DAGSTER_PIPES_CONTEXT_ENV_VAR: encode_param({"data": {"extras": {}}}),
        DAGSTER_PIPES_MESSAGES_ENV_VAR: encode_param({"path": str(messages)}),
        "DOLLY_END_WITH_STDIN": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if not gpus:
        environment["DS_ACCELERATOR"] = "cpu"
        environment["CUDA_VISIBLE_DEVICES"] = ""
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // ranks))
    return environment


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a worker that still runs: politely, then not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdin:
        process.stdin.close()  # ranks that outlived their parent end here


def _parse(line: str) -> Message | None:
    """The message of a pipes line; None for the protocol's own (opened, closed)."""
    message = json.loads(line)
    if message["method"] != "report_custom_message":
        return None
    return MESSAGE.validate_python(message["params"]["payload"])


def _error(code: int, failures: list[Failed], log: Path) -> Exception:
    if failures:
        first = failures[0]
        if first.by_user:
            return DollyError(first.error)
        return WorkerError(f"rank {first.rank}: {first.error}; the worker's log is {log}")
    if code == -signal.SIGKILL:
        return WorkerError(f"the worker was killed, as happens when memory runs out; its log is {log}")
    return WorkerError(f"the worker ended with code {code} and no word; its log is {log}")


class _Tail:
    """Reads a growing text file line by line; a line counts once its newline is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        path.unlink(missing_ok=True)

    def new_lines(self) -> Iterator[str]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole, newline, _ = data.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        yield from whole.decode(errors="replace").splitlines()
