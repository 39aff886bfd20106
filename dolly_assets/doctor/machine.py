"""What this machine has of what is needed: packages, GPUs, disk, families, the store.

It asks no cluster.
"""

import os
import platform
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from dolly_assets.core.errors import DollyError
from dolly_assets.core.text import file_size, memory_size
from dolly_assets.doctor.finding import CheckResult
from dolly_assets.hardware.visible_gpus import visible_devices
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.round_trip import round_trip
from dolly_assets.storage.s3 import PROFILE_FILES, ROLE_VARIABLES

TRAINS = ("torch", "deepspeed", "transformers")
ORCHESTRATES = ("dagster",)
LEAST_DISK_BYTES = 5 << 30  # one checkpoint of a small model, and its cache


def check_machine(home: Path, store_url: str, *, trains_here: bool) -> Iterator[CheckResult]:
    """Looks at everything that a command here needs; with `trains_here`, also at what workers do."""
    yield CheckResult("ok", "python", platform.python_version())
    pinned = _pinned()
    for package in [*ORCHESTRATES, *TRAINS]:
        yield _package(
            package, pinned.get(package), is_needed=trains_here or package in ORCHESTRATES
        )
    yield _gpus()
    yield _disk(home)
    if store_url.startswith("s3:"):
        yield CheckResult("ok", "credentials", f"of S3 from {credentials_source()}")
    yield check_store(store_url)


def check_store(url: str) -> CheckResult:
    """Writes to the store, reads back and deletes."""
    try:
        took = round_trip(ObjectStore(url))
    except DollyError as error:
        return CheckResult("MISSING", "store", " ".join(str(error).split()))
    text = f"{url}: written in {took.write_seconds:.2f} s, read back in {took.read_seconds:.2f} s, deleted"
    return CheckResult("ok", "store", text)


def credentials_source() -> str:
    """Where S3's credentials come from, without what they are."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return "AWS_ACCESS_KEY_ID"
    if found := next((name for name in ROLE_VARIABLES if os.environ.get(name)), None):
        return found
    files = [
        Path(os.environ.get(name) or default).expanduser()
        for name, default in PROFILE_FILES.items()
    ]
    if there := [str(file) for file in files if file.is_file()]:
        return f"profile {os.environ.get('AWS_PROFILE') or 'default'} in {' and '.join(there)}"
    return "the machine's role, if it has one: neither variables nor ~/.aws/ are there"


def _pinned() -> dict[str, str]:
    """The versions that this package is made for."""
    pins = (re.match(r"([\w-]+)==([^;\s]+)", line) for line in requires("dolly_assets") or [])
    return {pin[1]: pin[2] for pin in pins if pin}


def _package(name: str, pinned: str | None, *, is_needed: bool) -> CheckResult:
    try:
        found = version(name)
    except PackageNotFoundError:
        if not is_needed:
            return CheckResult("ok", name, "not here, as workers run in the cluster")
        extra = "orchestrator" if name in ORCHESTRATES else "worker"
        return CheckResult("MISSING", name, f"not installed: pip install 'dolly_assets[{extra}]'")
    if pinned and found.partition("+")[0] != pinned:
        return CheckResult(
            "MISSING",
            name,
            f"{found} is installed, {pinned} is what this was made with: install that",
        )
    return CheckResult("ok", name, found)


def _gpus() -> CheckResult:
    devices = visible_devices()
    names = ", ".join(
        f"{device.name} {memory_size(device.memory_total_bytes or 0)}" for device in devices
    )
    return CheckResult("ok", "GPUs", names or "none: what trains here trains on the CPU")


def _disk(home: Path) -> CheckResult:
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        return CheckResult("MISSING", "disk", f"{there} cannot be written to: set DOLLY_HOME")
    if free < LEAST_DISK_BYTES:
        return CheckResult(
            "MISSING",
            "disk",
            f"{home} has {file_size(free)} free: free some space, or set DOLLY_HOME",
        )
    return CheckResult("ok", "disk", f"{file_size(free)} free for {home}")
