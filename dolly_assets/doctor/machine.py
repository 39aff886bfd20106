"""Checks of this machine: Python, packages, GPUs, disk, credentials and the store.

It knows no cluster.
"""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from dolly_assets.core.errors import DollyError, some_of
from dolly_assets.core.home import open_to_others
from dolly_assets.core.text import file_size, memory_size, one_line
from dolly_assets.doctor.check_result import CheckResult
from dolly_assets.hardware.visible_gpus import visible_devices
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.round_trip import round_trip, summary
from dolly_assets.storage.s3 import PROFILE_FILES, ROLE_VARIABLES

TRAINS = ("torch", "deepspeed", "transformers")
ORCHESTRATES = ("dagster",)
LEAST_DISK_BYTES = 5 << 30  # one checkpoint of a small model, and its cache


def check_machine(home: Path, store_url: str, *, trains_here: bool) -> Iterator[CheckResult]:
    """Check what commands need on this machine.

    Args:
        home: The folder that `DOLLY_HOME` names.
        store_url: The store.
        trains_here: Whether workers run here too, so that their packages are needed.
    """
    yield CheckResult("ok", "python", platform.python_version())
    required = _required_versions()
    for package in [*ORCHESTRATES, *TRAINS]:
        yield _package(
            package, required.get(package), is_needed=trains_here or package in ORCHESTRATES
        )
    yield _gpus()
    yield _disk(home)
    yield _permissions(home)
    if store_url.startswith("s3:"):
        yield CheckResult("ok", "S3 credentials", f"from {credentials_source()}")
    yield check_store(store_url)


def check_store(url: str) -> CheckResult:
    """Check that the store can be written, read and deleted from."""
    try:
        return CheckResult("ok", "store", f"{url}: {summary(round_trip(ObjectStore(url)))}")
    except DollyError as error:
        return CheckResult("MISSING", "store", one_line(error))


def credentials_source() -> str:
    """Return where the credentials for S3 come from, without the credentials."""
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
    return "the machine's role, if it has one: neither the variables nor ~/.aws/ exist"


def _required_versions() -> dict[str, SpecifierSet]:
    """Return the versions that this package requires of others."""
    found = map(Requirement, requires("dolly_assets") or [])
    return {requirement.name: requirement.specifier for requirement in found}


def _package(name: str, required: SpecifierSet | None, *, is_needed: bool) -> CheckResult:
    try:
        found = version(name)
    except PackageNotFoundError:
        if not is_needed:
            return CheckResult("ok", name, "not installed, as workers run in the cluster")
        extra = "orchestrator" if name in ORCHESTRATES else "worker"
        return CheckResult("MISSING", name, f"not installed: pip install 'dolly_assets[{extra}]'")
    if required and not required.contains(found, prereleases=True):
        return CheckResult(
            "MISSING",
            name,
            f"{found} is installed, which does not meet {name}{required}: "
            f"pip install '{name}{required}'",
        )
    return CheckResult("ok", name, found)


def _gpus() -> CheckResult:
    devices = visible_devices()
    names = ", ".join(
        f"{device.name} {memory_size(device.memory_total_bytes or 0)}" for device in devices
    )
    return CheckResult("ok", "GPUs", names or "none: training on this machine uses the CPU")


def _disk(home: Path) -> CheckResult:
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        return CheckResult("MISSING", "disk", f"{there} is not writable: set DOLLY_HOME")
    if free < LEAST_DISK_BYTES:
        return CheckResult(
            "MISSING",
            "disk",
            f"{home} has {file_size(free)} free: free some space, or set DOLLY_HOME",
        )
    return CheckResult("ok", "disk", f"{file_size(free)} free for {home}")


def _permissions(home: Path) -> CheckResult:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):  # its volumes are open to the pod's own group
        return CheckResult("ok", "permissions", f"{home} is in a pod, which has no other users")
    try:
        found = some_of([folder.name for folder in open_to_others(home)])
    except OSError as error:
        return CheckResult("unknown", "permissions", f"{home}: {error.strerror}")
    if found == "none":
        return CheckResult("ok", "permissions", f"no other user can enter the folders of {home}")
    return CheckResult(
        "warning",
        "permissions",
        f"every user of this machine can read datasets and answers in {home} ({found}): "
        f"chmod 700 {home}; to share the store alone, name its folder in DOLLY_STORE",
    )
