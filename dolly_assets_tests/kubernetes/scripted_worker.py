"""A worker that trains nothing: it publishes a few bytes per epoch and ends as a test directs.

All else is real.

It stands for the command of the worker's image. The test and it meet in the folder that `SCRIPT`
names:

    go-N       epoch N may end; `go` lets all of them end
    fail-N     what one worker does instead of ending epoch N: the name of an error (`DollyError`,
               `KeyError`, `OutOfMemoryError` of a GPU), an exit code, what it takes more of than it
               may (`memory`, `disk`), or a folder that it fills to the last byte
    saving     while it is there, a pod that was asked to stop takes its time to save
    agree      while it is there, all workers stop when one is asked to, as ranks do
    begun-N    written by each pod that begins epoch N, a line each; trained-N likewise when it
               has ended
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dagster_pipes import PipesContext, decode_param, open_dagster_pipes

from dolly_assets.core import errors
from dolly_assets.core.names import epoch_key
from dolly_assets.storage.artifact import ArtifactStore, artifact_name
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.training.loop.out_of_memory import what_to_change
from dolly_assets.training.loop.stop import STOPPED, StopRequest
from dolly_assets.worker.explanation import explanation
from dolly_assets.worker.message_store import MessageWriter
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.pod import worker_variables
from dolly_assets.worker.restart import left_to_train, published_since
from dolly_assets.worker.spec import Train, WorkerSpec

POLL_SECONDS = 0.02
ABANDONED_SECONDS = 120.0
MUCH = 10**9  # bytes, more than a test's pod may have


def main() -> int:
    """Works through the epochs that are left; returns the exit code."""
    stop = StopRequest()
    stop.listen()
    stop.defer(lambda: None)
    spec = WorkerSpec[Train].model_validate(decode_param(os.environ["DOLLY_SPEC"]))
    scratch = Path(os.environ["DOLLY_SCRATCH"])
    folders = {"scratch_dir": scratch / "run", "cache_dir": scratch / "cache"}
    spec = spec.model_copy(update={**folders, "is_restartable": True})
    writer = MessageWriter(ObjectStore(spec.store_url))
    rank = int(os.environ["JOB_COMPLETION_INDEX"])
    os.environ.update(worker_variables(os.environ), RANK=str(rank))
    with open_dagster_pipes(message_writer=writer):
        return _Script(spec, Messenger(PipesContext.get(), rank), stop, rank).play()


class _Script:
    def __init__(
        self, spec: WorkerSpec[Train], messenger: Messenger, stop: StopRequest, rank: int
    ) -> None:
        self._spec, self._messenger, self._stop, self._rank = spec, messenger, stop, rank
        self._folder = Path(os.environ["SCRIPT"])
        self._how = ""  # it is to fail
        begun = self._folder / f"begun-{os.environ['DOLLY_POD']}"
        begun.touch()
        self._began = begun.stat().st_mtime  # by the clock that times a note, not the pod's
        self._store = ArtifactStore(spec.store_url, spec.cache_dir)

    def play(self) -> int:
        published = published_since(self._spec, self._store)
        for artifact in published:
            self._messenger.emit_published_again(artifact)
        spec = left_to_train(self._spec, self._store, published)
        if spec is None:
            return 0
        for epoch in spec.task.epochs:
            code = self._train(epoch)
            if code:
                return code
        return 0

    def _train(self, epoch: int) -> int:
        self._note(f"begun-{epoch}")
        print(f"epoch {epoch} begins", flush=True)  # noqa: T201 the pod's log
        for _ in until(lambda: self._is_over(epoch)):
            if self._is_to_stop():
                return self._stopped(epoch)
        if self._how:
            return self._fail(self._how)
        self._note(f"trained-{epoch}")
        if self._rank == 0:
            self._publish(epoch)
        return 0

    def _is_over(self, epoch: int) -> bool:
        """Whether an epoch may end, or this worker is the one that ends it otherwise."""
        claimed = self._folder / f"failing-{epoch}-{os.environ['DOLLY_POD']}"
        with contextlib.suppress(FileNotFoundError):
            (self._folder / f"fail-{epoch}").rename(claimed)
            self._how = claimed.read_text()
        return bool(self._how) or any(
            (self._folder / name).exists() for name in ("go", f"go-{epoch}")
        )

    def _is_to_stop(self) -> bool:
        """Whether this worker was asked to stop, or another one since this one has begun."""
        note = self._folder / "stop"
        if self._stop.is_requested and (self._folder / "agree").exists():
            note.touch()
        return self._stop.is_requested or (note.exists() and note.stat().st_mtime > self._began)

    def _stopped(self, epoch: int) -> int:
        self._messenger.emit_stopping(1)
        for _ in until(lambda: not (self._folder / "saving").exists()):
            pass
        self._messenger.emit_stopped(f"stopped at epoch {epoch}")
        return STOPPED

    def _fail(self, how: str) -> int:
        if how.isdigit():
            return int(how)
        if how == "memory":
            return len(b"1" * MUCH)
        if how == "disk":
            (Path(os.environ["DOLLY_SCRATCH"]) / "much").write_bytes(bytes(MUCH // 4))
            for _ in until(lambda: self._stop.is_requested):
                pass
            return STOPPED
        if Path(how).is_absolute():
            return self._fill(Path(how))
        print("the last words of a worker", flush=True)  # noqa: T201
        by_user = hasattr(errors, how) or how == "OutOfMemoryError"
        said = "change this" if by_user else f"{how}: what"
        if how == "OutOfMemoryError":
            said = f"out of memory (CUDA out of memory): {what_to_change(self._spec.family.recipe)}"
        self._messenger.emit_failed(said, by_user=by_user)
        return 2 if by_user else 1

    def _fill(self, folder: Path) -> int:
        try:
            (folder / "much").write_bytes(bytes(MUCH // 4))
        except OSError as error:
            said = explanation(error, self._spec)
            self._messenger.emit_failed(said or str(error), by_user=bool(said))
            return 2 if said else 1
        return 0

    def _note(self, name: str) -> None:
        with (self._folder / name).open("a") as file:
            file.write(f"{os.environ['DOLLY_POD']}\n")

    def _publish(self, epoch: int) -> None:
        task = self._spec.task
        content = Path(os.environ["DOLLY_SCRATCH"]) / "content"
        for asset in ("gpu_profile", "model_checkpoint"):
            content.write_text(f"{asset} {epoch} of {task.training}")
            artifact = self._store.publish(
                artifact_name([self._spec.family.name, asset], task.dataset, epoch_key(epoch)),
                {"content": content},
                kind=asset,
                attributes={"epoch": epoch, "training": task.training},
                made_by=self._spec.made_by,
            )
            self._messenger.emit_published(artifact)


def until(happened: Callable[[], bool]) -> Iterator[None]:
    """Waits until it has happened, and gives up when it does not."""
    ends = time.monotonic() + ABANDONED_SECONDS
    while not happened():
        yield
        assert time.monotonic() < ends, "nobody directs this worker any more"
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
