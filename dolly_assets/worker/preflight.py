"""Checks before a model is loaded: driver, devices, network, store, disk, clocks.

Every rank calls it. The measurements go to the log and to `preflight.json` in the profile's folder,
next to the sampler's files: a JSON object whose keys are the fields of `Measurements`; a value that
was not measured is null. It knows a training's needs, and trains nothing.
"""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.errors import TrainingError
from dolly_assets.core.text import duration, file_size, memory_size, one_line
from dolly_assets.hardware.visible_gpus import driver_cuda_version
from dolly_assets.planning.plan import scratch_bytes
from dolly_assets.profiling.report.report import PREFLIGHT_FILE
from dolly_assets.registry.estimate import model_shape
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.round_trip import round_trip
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.profiles.profile_publisher import profile_dir
from dolly_assets.worker.spec import Train, WorkerSpec

if TYPE_CHECKING:
    import torch


class _Load(NamedTuple):
    """What the devices are given to do: enough to show their rate, and not the latency."""

    reduced_bytes: int
    matrix: int  # rows and columns


# An H100 multiplies matrices of 1,024 in less time than it takes to launch the kernel, and NVLink
# is at its bandwidth from some 64 MiB on.
ON_GPU, ON_CPU = _Load(256 << 20, 8192), _Load(4 << 20, 1024)
TIMES = 3
MEET_SECONDS = 60.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 NCCL's and gloo's, not ours
# Docker's default, of which NCCL needs some 10 MiB for each pair of GPUs.
SMALL_SHARED_BYTES = 64 << 20
# S3 refuses requests whose clock is 15 minutes off; a smaller skew already affects locks and
# retention.
SKEW_SECONDS, MOST_SKEW_SECONDS = 30.0, 900.0


class Measurements(Config):
    """The measurements of a preflight, on rank 0."""

    seconds: float = Field(description="Duration of the preflight.")
    ranks: int = Field(description="Number of ranks.")
    gpus: int = Field(description="Number of GPUs that this rank sees.")
    cuda_runtime: str | None = Field(
        description="CUDA version that torch was built for, such as 12.8."
    )
    cuda_driver: str | None = Field(
        description="Newest CUDA version that the driver supports, such as 12.8."
    )
    allreduce_bytes_per_second: float | None = Field(
        description="Bus bandwidth of an all-reduce, as nccl-tests defines it."
    )
    matmul_flops: float = Field(
        description="Operations per second of this rank while all ranks multiply matrices, in the "
        "recipe's precision."
    )
    store_write_seconds: float = Field(description="Duration of a small write to the store.")
    store_read_seconds: float = Field(description="Duration of a small read from the store.")
    clock_skew_seconds: float = Field(
        description="The store's clock minus this machine's, to the duration of a write."
    )
    disk_free_bytes: int = Field(description="Free space where the training writes.")
    disk_needed_bytes: int = Field(description="Space that the training needs there.")
    shared_memory_bytes: int | None = Field(description="Size of /dev/shm.")


def preflight(spec: WorkerSpec[Train], base_model: Artifact, messenger: Messenger) -> None:
    """Check this machine for the training of a spec.

    Args:
        spec: The training.
        base_model: The model that it starts from, which determines the space that it needs.
        messenger: Gets the log lines.

    Raises:
        TrainingError: The training could not run here; the message has the remedy.
        ArtifactError: The store cannot be written or read.
    """
    if not spec.task.epochs[-1]:
        return  # only the base model is published
    begin = time.perf_counter()
    ranks = _Ranks.here()
    gpus, runtime, driver = _cuda(spec.family.compute.gpus, ranks.of_this_machine)
    bandwidth, flops = _devices_at_work(ranks, spec.family.recipe.precision, on_gpu=gpus > 0)
    if ranks.rank:
        return
    shape, recipe = model_shape(base_model), spec.family.recipe
    if shape.context and (remark := shape.context.check(recipe.max_length, base_model.name)):
        messenger.log(remark)
    needed = scratch_bytes(shape, recipe)
    free = _check_disk(spec.scratch_dir, needed)
    store = round_trip(ObjectStore(spec.store_url, spec.s3))
    _check_clock(store.skew_seconds)
    measured = Measurements(
        seconds=time.perf_counter() - begin,
        ranks=ranks.count,
        gpus=gpus,
        cuda_runtime=runtime,
        cuda_driver=driver,
        allreduce_bytes_per_second=bandwidth,
        matmul_flops=flops,
        store_write_seconds=store.write_seconds,
        store_read_seconds=store.read_seconds,
        clock_skew_seconds=store.skew_seconds,
        disk_free_bytes=free,
        disk_needed_bytes=needed,
        shared_memory_bytes=shutil.disk_usage(SHARED_MEMORY).total
        if SHARED_MEMORY.is_dir()
        else None,
    )
    folder = profile_dir(spec)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PREFLIGHT_FILE).write_text(measured.model_dump_json(indent=1), encoding="utf-8")
    for line in _lines(measured):
        messenger.log(line)


@dataclass(frozen=True)
class _Ranks:
    rank: int
    count: int
    of_this_machine: int
    local: int

    @classmethod
    def here(cls) -> "_Ranks":
        """Return this rank as torchrun numbers it; without torchrun, it is the only one."""
        names = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "LOCAL_RANK": 0}
        return cls(*(int(os.environ.get(name, default)) for name, default in names.items()))


def _cuda(requested: int, ranks: int) -> tuple[int, str | None, str | None]:
    """Return the number of visible GPUs, torch's CUDA version, and the driver's newest.

    Raises:
        TrainingError: GPUs are requested, and these do not match or are too few.
    """
    import torch

    runtime = torch.version.cuda
    driver = driver_cuda_version() if runtime else None
    if requested and runtime and driver and _major(driver) < _major(runtime):
        raise TrainingError(
            f"the NVIDIA driver supports CUDA {driver} and torch was built for {runtime}: update "
            f"the driver, or install torch for CUDA {_major(driver)}"
        )
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if requested and seen < ranks:
        raise TrainingError(
            f"the plan is for {ranks} GPUs and torch {torch.__version__} sees {seen}: check "
            "nvidia-smi, CUDA_VISIBLE_DEVICES and the container's GPU request"
        )
    return seen, runtime, driver


def _major(version: str) -> int:
    return int(version.split(".")[0])


def _devices_at_work(ranks: _Ranks, precision: str, *, on_gpu: bool) -> tuple[float | None, float]:
    """Return the all-reduce bandwidth (None for one rank), and the rate of matrix products.

    Raises:
        TrainingError: The device is none that torch was built for, or the ranks do not connect.
    """
    import torch

    device = torch.device("cuda", ranks.local) if on_gpu else torch.device("cpu")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    load = ON_GPU if on_gpu else ON_CPU
    if on_gpu:
        name = torch.cuda.get_device_name(device)
        check_architecture(
            name, torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
        )
    bandwidth = None
    if ranks.count > 1:  # first, so that all ranks then multiply at the same time
        tensor = torch.ones(load.reduced_bytes // 4, device=device)
        bandwidth = _allreduce_bandwidth(ranks, tensor)
    return bandwidth, _matmul_flops(device, dtype, load.matrix)


def check_architecture(device: str, capability: tuple[int, int], built_for: Sequence[str]) -> None:
    """Raise TrainingError if torch has no code for a GPU.

    Code for `sm_80` runs on compute capability 8.0 and newer of the same major version; the driver
    compiles `compute_90` for 9.0 and anything newer
    (https://docs.nvidia.com/cuda/cuda-c-programming-guide/#binary-compatibility).

    Args:
        device: Name of the GPU.
        capability: Its compute capability.
        built_for: Architectures that torch was built for, as `torch.cuda.get_arch_list()` has them.
    """
    major, minor = capability
    for each in built_for:
        kind, _, version = each.rstrip("af").partition("_")
        its_major, its_minor = int(version[:-1]), int(version[-1])
        if kind == "sm" and its_major == major and its_minor <= minor:
            return
        if kind == "compute" and (its_major, its_minor) <= capability:
            return
    raise TrainingError(
        f"this torch has no code for {device} (compute capability {major}.{minor}): it was built "
        f"for {', '.join(built_for) or 'no GPU'}; install a build of torch for older or newer GPUs"
    )


def _allreduce_bandwidth(ranks: _Ranks, tensor: "torch.Tensor") -> float:
    """Return the bus bandwidth of an all-reduce of the tensor, in bytes per second."""
    size_bytes = tensor.numel() * tensor.element_size()
    try:
        group = _group(ranks, on_gpu=tensor.is_cuda)
        group.allreduce([tensor]).wait()  # connects
        _wait_for(tensor.device)
        begin = time.perf_counter()
        for _ in range(TIMES):
            group.allreduce([tensor]).wait()
        _wait_for(tensor.device)
        seconds = (time.perf_counter() - begin) / TIMES
    except RuntimeError as error:
        raise TrainingError(
            f"an all-reduce of {size_bytes >> 20} MiB among the {ranks.count} ranks failed "
            f"({one_line(error, 200)}): check the network between them"
        ) from error
    # https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md#allreduce
    return 2 * (ranks.count - 1) / ranks.count * size_bytes / seconds


def _group(ranks: _Ranks, *, on_gpu: bool) -> Any:
    """Return the ranks as a process group of its own, which leaves nothing behind.

    DeepSpeed creates the training's group.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    timeout = timedelta(seconds=MEET_SECONDS)
    store, _, _ = next(rendezvous("env://", timeout=timeout))
    apart = dist.PrefixStore("preflight", store)  # pyright: ignore[reportPrivateImportUsage]
    if not on_gpu:
        return dist.ProcessGroupGloo(apart, ranks.rank, ranks.count, timeout)
    torch.cuda.set_device(ranks.local)
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = timeout
    return dist.ProcessGroupNCCL(apart, ranks.rank, ranks.count, options)


def _matmul_flops(device: "torch.device", dtype: "torch.dtype", size: int) -> float:
    """Return the operations per second of a matrix product: the best of three after one."""
    import torch

    matrix = torch.ones(size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(1 + TIMES):
        _wait_for(device)
        begin = time.perf_counter()
        torch.mm(matrix, matrix)
        _wait_for(device)
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / min(seconds[1:])


def _wait_for(device: "torch.device") -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _check_disk(folder: Path, needed: int) -> int:
    """Return the free bytes where the training writes.

    Raises:
        TrainingError: There are too few.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"the plan needs {file_size(needed)} of disk for the weights and two checkpoints, but "
            f"{folder} has {file_size(free)} free: free some space, or set DOLLY_HOME to a larger "
            "disk"
        )
    return free


def _check_clock(skew: float) -> None:
    """Raise TrainingError if the store's clock is far from this machine's."""
    if abs(skew) > MOST_SKEW_SECONDS:
        raise TrainingError(
            f"the store's clock is {abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} this "
            "machine's: set this machine's clock"
        )


def _lines(found: Measurements) -> list[str]:
    """Return lines for the log: the measurements, and what is unusual."""
    network = ""
    if found.allreduce_bytes_per_second:
        network = (
            f"all-reduce {found.allreduce_bytes_per_second / 1e9:,.2f} GB/s among {found.ranks} "
            "ranks, "
        )
    lines = [
        f"preflight in {duration(found.seconds)}: {network}"
        f"{found.matmul_flops / 1e12:,.3g} TFLOP/s per rank, store "
        f"{duration(found.store_write_seconds)} to write and {duration(found.store_read_seconds)} "
        f"to read, disk {file_size(found.disk_free_bytes)} free of "
        f"{file_size(found.disk_needed_bytes)} needed"
    ]
    if abs(found.clock_skew_seconds) > SKEW_SECONDS:
        lines.append(
            f"the store's clock differs from this machine's by {found.clock_skew_seconds:,.0f} s: "
            "set this machine's clock"
        )
    shared = found.shared_memory_bytes
    if found.gpus and found.ranks > 1 and shared is not None and shared <= SMALL_SHARED_BYTES:
        lines.append(
            f"{SHARED_MEMORY} has only {memory_size(shared)}, which NCCL may exhaust: give the "
            "container more"
        )
    return lines
