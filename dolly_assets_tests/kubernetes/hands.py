"""What can happen to a training, with the same names on the stand-in and on a real cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dolly_assets_tests.kubernetes.cluster import Cluster
from dolly_assets_tests.kubernetes.directed import Directed
from dolly_assets_tests.kubernetes.objects import Object

NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


class Hand(Protocol):
    """Disturbs the last pod of the only training of a cluster, its Job, or the cluster."""

    cluster: Any
    folder: Path

    def training(self, **options: Any) -> Directed:
        """One that is not begun; `settings`, `compute` and `container` are merged over ours."""
        ...

    def evict(self) -> None: ...
    def preempt(self) -> None: ...
    def delete(self) -> None: ...
    def reboot(self) -> None: ...
    def lose(self) -> None:
        """Its node is gone, and deleted from the cluster."""
        ...

    def silence(self) -> None:
        """Its node does not answer; `answer` ends it."""
        ...

    def answer(self) -> None: ...
    def take_memory(self, training: Directed) -> None: ...
    def take_disk(self, training: Directed) -> None: ...
    def delete_job(self, policy: str) -> None: ...
    def hold(self) -> None:
        """No node has a free GPU; `release` ends this and the following."""
        ...

    def exceed_quota(self) -> None: ...
    def limit_range(self) -> None: ...
    def break_images(self) -> None: ...
    def break_mounts(self) -> None: ...
    def break_starts(self) -> None: ...
    def deny(self) -> None: ...
    def release(self) -> None: ...
    def pods(self) -> int: ...
    def jobs(self) -> int:
        """The Jobs that have not ended."""
        ...

    def gpus_booked(self) -> int: ...


@dataclass
class StandInHand:
    """On the stand-in."""

    cluster: Cluster
    folder: Path

    def training(self, **options: Any) -> Directed:
        return Directed(self.folder, self.cluster, **options)

    def _last(self) -> Object:
        return max(self.cluster.running(), key=lambda pod: pod["spec"]["hostname"])

    def evict(self) -> None:
        self.cluster.evict(self._last())

    def preempt(self) -> None:
        self.cluster.preempt(self._last())

    def delete(self) -> None:
        self.cluster.delete(self._last())

    def reboot(self) -> None:
        self.cluster.reboot(self._last())

    def lose(self) -> None:
        self.cluster.lose(self._last())

    def silence(self) -> None:
        self.cluster.silence(self._last())

    def answer(self) -> None:
        self.cluster.answer(self._last())

    def take_memory(self, training: Directed) -> None:
        self.cluster.oom_kill(self._last())

    def take_disk(self, training: Directed) -> None:
        self.cluster.fill_disk(self._last())

    def delete_job(self, policy: str) -> None:
        self.cluster.controller.delete_job(self.cluster.jobs()[0], policy)

    def hold(self) -> None:
        self.cluster.hold(NO_GPU)

    def exceed_quota(self) -> None:
        self.cluster.exceed_quota("exceeded quota: gpus")

    def limit_range(self) -> None:
        self.cluster.limit_range({"cpu": "500m"})

    def break_images(self) -> None:
        self.cluster.break_images("ErrImagePull")

    def break_mounts(self) -> None:
        self.cluster.break_mounts('secret "absent" not found')

    def break_starts(self) -> None:
        self.cluster.break_starts('exec: "no-such-program": executable file not found in $PATH')

    def deny(self) -> None:
        self.cluster.deny("images come from here only")

    def release(self) -> None:
        self.cluster.release()

    def pods(self) -> int:
        return len(self.cluster.pods())

    def jobs(self) -> int:
        return sum("deletionTimestamp" not in job["metadata"] for job in self.cluster.jobs())

    def gpus_booked(self) -> int:
        return self.cluster.gpus_booked()
