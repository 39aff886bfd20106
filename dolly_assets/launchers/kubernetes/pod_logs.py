"""The logs of a Job's pods, each line with rank and pod, and how pods that failed have ended.

It knows pods and their streams, not what their Job is to do about it.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

from dolly_assets.launchers.kubernetes.api import Api
from dolly_assets.launchers.kubernetes.pods import (
    Pod,
    has_ended,
    has_started,
    how_it_ended,
    index_of,
)
from dolly_assets.launchers.kubernetes.watch import LogStream

LOG_SECONDS = 10.0  # for the rest of the logs of pods that have ended


class PodLogs:
    """Streams the logs of all pods that have run for one piece of work.

    Args:
        api: The API of the pods' namespace.
        ranks: How many ranks run in a pod.
        pods: Called for the pods that exist now, also from other threads.
        log: Called with a line on each pod that has failed.
    """

    def __init__(
        self, api: Api, ranks: int, pods: Callable[[], Sequence[Pod]], log: Callable[[str], None]
    ) -> None:
        self._api, self._ranks, self._pods, self._log = api, ranks, pods, log
        self._streams: dict[str, LogStream] = {}
        self._reported: set[str] = set()

    @property
    def last_lines(self) -> dict[str, Sequence[str]]:
        """The last lines of each pod that has run, by its name."""
        return {name: stream.last for name, stream in self._streams.items()}

    def follow(self, gone: Sequence[Pod], pods: Sequence[Pod]) -> None:
        """Stream the logs of pods that run, and report those that have failed.

        Args:
            gone: Pods that were deleted.
            pods: Those that exist.
        """
        for pod in [*gone, *pods]:
            name = pod.metadata.name
            if has_started(pod) and name not in self._streams:
                prefix = f"[rank {self._ranks_of(pod)} {name}] "
                self._streams[name] = LogStream(
                    partial(self._api.pod_log, name), partial(self._has_ended, name), prefix
                )
        for pod in [*gone, *(pod for pod in pods if pod.status.phase == "Failed")]:
            if pod.metadata.name not in self._reported and pod.status.phase != "Succeeded":
                self._reported.add(pod.metadata.name)
                self._log(how_it_ended(pod))

    def finish(self) -> None:
        """End all streams; those of pods that have ended may first read the rest for a moment."""
        deadline = time.monotonic() + LOG_SECONDS
        for pod, stream in self._streams.items():
            stream.finish(max(0.0, deadline - time.monotonic()) if self._has_ended(pod) else 0)

    def close(self) -> None:
        """End all streams at once."""
        for stream in self._streams.values():
            stream.finish(0)

    def _has_ended(self, pod: str) -> bool:
        """Return whether a pod writes no more to its log."""
        return all(has_ended(item) for item in self._pods() if item.metadata.name == pod)

    def _ranks_of(self, pod: Pod) -> str:
        """Return the ranks that run in a pod, such as `4-7`."""
        first = index_of(pod) * self._ranks
        last = first + self._ranks - 1
        return f"{first}-{last}" if last > first else str(first)
