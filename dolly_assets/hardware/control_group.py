"""The limits of this process's container, and its waits: control groups of both versions.

Knows only the folders of the group that this process is in, and those above it, whose limits hold
too.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_UNLIMITED_BYTES = 2**60  # version 1 writes "no limit" as a number near 2^63
_PRESSURES = ("cpu", "memory", "io")


class ControlGroup:
    """The control group of this process.

    Args:
        root: Root of the file system; `/` except in tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._mount = root / "sys/fs/cgroup"
        self._paths = dict(_own_paths(root / "proc/self/cgroup"))
        self._is_v2 = (self._mount / "cgroup.controllers").exists()

    def cpu_limit(self) -> float | None:
        """Return how many CPUs it may use, as CPU time per time; None without a limit."""
        if self._is_v2:
            return self._smallest(
                "", lambda folder: _cpus(*(folder / "cpu.max").read_text().split())
            )
        return self._smallest(
            "cpu",
            lambda folder: _cpus(
                (folder / "cpu.cfs_quota_us").read_text().strip(),
                (folder / "cpu.cfs_period_us").read_text(),
            ),
        )

    def memory_limit_bytes(self) -> int | None:
        """Return how much memory it may use; None without a limit."""
        name = "memory.max" if self._is_v2 else "memory.limit_in_bytes"
        limit = self._smallest(
            "" if self._is_v2 else "memory", lambda folder: float((folder / name).read_text())
        )
        return None if limit is None or limit >= _UNLIMITED_BYTES else int(limit)

    def read(self) -> dict[str, float]:
        """Read the memory in use, and counters of what the group had to wait for.

        These are `memory_bytes` and the counters `out_of_memory_kills`, `cpu_throttled_seconds`
        (held back by the limit) and, for each of cpu, memory and io, `…_pressure_seconds` (some
        task waited for it). What the kernel does not provide is left out; version 1 provides none.
        """
        if not self._is_v2:
            return {}
        folder = next(self._folders(""), self._mount)
        values: dict[str, float] = {}
        for field, file, key, per_unit in (
            ("cpu_throttled_seconds", "cpu.stat", "throttled_usec", 1e6),
            ("out_of_memory_kills", "memory.events", "oom_kill", 1),
        ):
            with suppress(OSError, ValueError, KeyError):
                values[field] = int(_pairs(folder / file)[key]) / per_unit
        with suppress(OSError, ValueError):
            values["memory_bytes"] = int((folder / "memory.current").read_text())
        for resource in _PRESSURES:
            with suppress(OSError, ValueError, IndexError):
                some = (folder / f"{resource}.pressure").read_text().splitlines()[0]
                values[f"{resource}_pressure_seconds"] = int(some.rpartition("total=")[2]) / 1e6
        return values

    def _smallest(self, controller: str, limit: Callable[[Path], float | None]) -> float | None:
        found: list[float] = []
        for folder in self._folders(controller):
            with suppress(OSError, ValueError, TypeError):
                value = limit(folder)
                if value is not None:
                    found.append(value)
        return min((value for value in found if value != float("inf")), default=None)

    def _folders(self, controller: str) -> Iterator[Path]:
        """Yield the group's folder and those above it that are visible.

        In a container, its own is often the topmost.
        """
        top = self._mount / controller
        folder = top / self._paths.get(controller, "/").lstrip("/")
        while folder != top:
            if folder.exists():
                yield folder
            folder = folder.parent
        yield top


def _own_paths(file: Path) -> Iterator[tuple[str, str]]:
    """Yield controllers and paths of the group; version 2's controller is the empty string."""
    with suppress(OSError):
        for line in file.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                yield controller, path


def _cpus(quota: str, period: str) -> float | None:
    """Return the limit in CPUs; both are microseconds, the quota is "max" or -1 without a limit."""
    return None if quota in {"max", "-1"} else int(quota) / int(period)


def _pairs(file: Path) -> dict[str, str]:
    return dict(line.split() for line in file.read_text().splitlines())
