"""`python -m dolly_assets.worker.pod`: one node's part of a worker, in a pod.

It knows its environment and torchrun, not the task:

| variable | meaning |
| --- | --- |
| `DOLLY_SPEC` | the worker's spec, as `dagster_pipes` encodes parameters |
| `DOLLY_SCRATCH` | the pod's scratch folder |
| `DOLLY_MESSAGES` | the prefix in the store that messages go to |
| `DOLLY_POD` | the pod's name |
| `DOLLY_DEVICE` | `cpu` if the pod has no GPU |
| `DOLLY_RANKS` | processes on this node |
| `DOLLY_CPUS` | CPU cores that they share |
| `DOLLY_NODES`, `JOB_COMPLETION_INDEX` | number of pods that train together, index of this one |
| `DOLLY_MEET` | host and port of the first of them |
| `DOLLY_MEET_SECONDS` | how long they wait for each other |
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_ENV_VAR,
    DAGSTER_PIPES_MESSAGES_ENV_VAR,
    decode_param,
    encode_param,
)

from dolly_assets.core.errors import ArtifactError, ConfigurationError
from dolly_assets.worker.message_store import POD, STORE_PREFIX
from dolly_assets.worker.restart import left_to_train, published_since
from dolly_assets.worker.spec import SPEC_FILE, Train, WorkerSpec, has_task, read_spec


def main() -> None:
    """Replace this process by the worker, or by the torchrun that starts its ranks."""
    given = os.environ
    scratch = Path(given["DOLLY_SCRATCH"])
    folders = {
        "scratch_dir": scratch / "run",
        "cache_dir": scratch / "cache",
        "is_restartable": True,
    }
    try:
        spec = read_spec(json.dumps(decode_param(given["DOLLY_SPEC"])).encode())
    except ConfigurationError as error:
        sys.exit(str(error))
    spec = spec.model_copy(update=folders)
    spec.scratch_dir.mkdir(parents=True, exist_ok=True)
    path = spec.scratch_dir / SPEC_FILE
    path.write_text(spec.model_dump_json())
    arguments = [sys.executable, *_arguments(given, spec, path)]
    os.execve(sys.executable, arguments, {**given, **worker_variables(given)})  # noqa: S606 no shell


def _is_done(spec: WorkerSpec) -> bool:
    """Return whether earlier pods have left nothing to train.

    The pods of other nodes may have ended for good because of that.
    """
    if not has_task(spec, Train):
        return False
    store = spec.open_store()
    try:
        return left_to_train(spec, store, published_since(spec, store)) is None
    except ArtifactError:  # the worker will meet and report it
        return False


def _arguments(given: Mapping[str, str], spec: WorkerSpec, path: Path) -> list[str]:
    worker = ["-m", "dolly_assets.worker", str(path)]
    ranks, nodes = int(given["DOLLY_RANKS"]), int(given["DOLLY_NODES"])
    torchrun = ["-m", "dolly_assets.worker.torchrun", f"--nproc-per-node={ranks}"]
    if nodes > 1 and _is_done(spec):
        return worker
    if nodes > 1:
        host, _, port = given["DOLLY_MEET"].rpartition(":")
        meet = [
            f"--node-rank={given['JOB_COMPLETION_INDEX']}",
            f"--master-addr={host}",
            f"--master-port={port}",
        ]
        wait = f"--rdzv-conf=timeout={given['DOLLY_MEET_SECONDS']}"
        return [*torchrun, f"--nnodes={nodes}", *meet, wait, *worker]
    return [*torchrun, "--standalone", *worker] if ranks > 1 else worker


def worker_variables(given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a worker gets in addition to those of its pod."""
    messages = {STORE_PREFIX: given["DOLLY_MESSAGES"], POD: given["DOLLY_POD"]}
    found = {
        DAGSTER_PIPES_CONTEXT_ENV_VAR: encode_param({"data": {"extras": {}}}),
        DAGSTER_PIPES_MESSAGES_ENV_VAR: encode_param(messages),
        "PYTHONUNBUFFERED": "1",
    }
    # torchrun would give each rank one thread, with which a GPU's offloaded optimizer is slow, too.
    threads = max(1, int(given["DOLLY_CPUS"]) // int(given["DOLLY_RANKS"]))
    found["OMP_NUM_THREADS"] = str(threads)
    if given["DOLLY_DEVICE"] == "cpu":
        found |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return found


if __name__ == "__main__":
    main()
