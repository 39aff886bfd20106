"""A training in a stand-in cluster that a test directs, and a cluster with a deployment in it."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dolly_assets.core.names import epoch_key
from dolly_assets.launchers.base import Times
from dolly_assets.launchers.kubernetes.job import Owner
from dolly_assets.launchers.kubernetes.launcher import KubernetesLauncher
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.planning.prices import Prices
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.worker.messages import Log, Message, Published
from dolly_assets.worker.spec import ArtifactRef, Train, WorkerSpec
from dolly_assets_tests.kubernetes.cluster import NAMESPACE, QUEUE, Cluster
from dolly_assets_tests.tiny_training import DATASET, tiny_family

IMAGE = "scripted:1"
SPEED = 20  # the cluster's own times, deadlines and grace, pass so much faster
# A run of its own, which can be killed; its folder, settings and compute are the arguments.
LAUNCH = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from dolly_assets_tests.kubernetes.directed import Directed

settings, compute = map(json.loads, sys.argv[2:])
Directed(Path(sys.argv[1]), SimpleNamespace(), settings, compute).launch()
"""


def deployed_cluster(folder: Path, speed: float = SPEED) -> Cluster:
    """A cluster with the headless Service, whose worker's image is the scripted worker."""
    cluster = Cluster(folder, speed=speed)
    cluster.apply(
        {"kind": "Service", "metadata": {"name": "dolly-workers"}, "spec": {"clusterIP": "None"}}
    )
    cluster.programs[IMAGE] = ["python", "-m", "dolly_assets_tests.kubernetes.scripted_worker"]
    return cluster


@dataclass
class Directed:
    """A training of a scripted worker, launched on its own thread, with a folder to direct it."""

    folder: Path
    cluster: Cluster
    settings: Mapping[str, Any] = field(default_factory=dict)
    compute: Mapping[str, Any] = field(default_factory=dict)
    epochs: tuple[int, ...] = (1, 2, 3)
    owner: Owner = field(default_factory=lambda: Owner("run", "run", "fine_tune"))
    is_cancelled: bool = True
    messages: list[Message | Times] = field(default_factory=list)
    on_message: Callable[[Message | Times], None] = lambda _: None
    error: BaseException | None = None
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def spec(self) -> WorkerSpec:
        """A training whose inputs no scripted worker reads."""
        nothing = ArtifactRef(name="nothing", digest="0" * 64)
        family = tiny_family(global_batch_size=16)  # for up to eight ranks
        compute = family.compute.model_validate(
            {**family.compute.model_dump(), "cpu_ranks": 1, "gpus": 1, **self.compute}
        )
        return WorkerSpec(
            family=family.model_copy(update={"compute": compute}),
            task=Train(
                dataset=DATASET,
                epochs=self.epochs,
                base_model=nothing,
                tokenized_dataset=nothing,
                training="t",
                prices=Prices.read(),
            ),
            store_url=str(self.folder / "store"),
            cache_dir=self.folder / "cache",
            scratch_dir=self.folder / "scratch",
            made_by={"run_id": self.owner.run_id},
        )

    @property
    def launcher(self) -> KubernetesLauncher:
        script = {"env": [{"name": "SCRIPT", "value": str(self.folder)}]}
        settings = {
            "namespace": NAMESPACE,
            "image": IMAGE,
            "config": {"container_config": script},
            **self.settings,
        }
        return KubernetesLauncher(
            KubernetesSettings.model_validate(settings), self.owner, lambda: self.is_cancelled
        )

    def launch(self) -> None:
        """Runs it to its end in this thread."""
        self.launcher.run(self.spec, self._take)

    def launch_apart(self) -> subprocess.Popen[bytes]:
        """Runs it in a process of its own."""
        options = (json.dumps(dict(item)) for item in (self.settings, self.compute))
        return subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(self.folder), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start(self) -> None:
        """Runs it beside the test."""

        def run() -> None:
            try:
                self.launch()
            except BaseException as error:  # noqa: BLE001 it is the test's
                self.error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def end(self) -> BaseException | None:
        """Waits for its end; the error, if it ended with one."""
        assert self._thread
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self.error

    def _take(self, message: Message | Times) -> None:
        self.messages.append(message)
        self.on_message(message)

    def let(self, *epochs: int) -> None:
        """Lets epochs end; all of them if none is named."""
        for name in [f"go-{epoch}" for epoch in epochs] or ["go"]:
            (self.folder / name).touch()

    def agree(self) -> None:
        """Has all workers stop when one is asked to, as ranks do."""
        (self.folder / "agree").touch()

    def hold_saving(self) -> None:
        """Has pods that are asked to stop take their time to save."""
        (self.folder / "saving").touch()

    def let_save(self) -> None:
        """Ends that."""
        (self.folder / "saving").unlink()

    def fail(self, epoch: int, how: str) -> None:
        """Has one worker end otherwise in an epoch."""
        part = self.folder / "part"
        part.write_text(how)
        part.rename(self.folder / f"fail-{epoch}")

    def times(self, what: str, epoch: int) -> int:
        """How often an epoch has been `begun` or `trained`."""
        file = self.folder / f"{what}-{epoch}"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def wait(self, what: str, epoch: int, times: int = 1) -> None:
        """Returns when an epoch has been `begun` or `trained` this many times."""
        self.cluster.wait(lambda: self.times(what, epoch) >= times)

    @property
    def published(self) -> list[str]:
        """The epochs of the checkpoints that were reported, in order."""
        return [
            item.name.rpartition("/")[2]
            for item in self.messages
            if isinstance(item, Published) and "model_checkpoint" in item.name
        ]

    @property
    def log(self) -> str:
        """The lines for the reader of the run."""
        return "\n".join(item.text for item in self.messages if isinstance(item, Log))

    def ends_whole(self) -> Times:
        """Lets all epochs end, checks that each was published once, and returns the times."""
        self.let()
        assert self.end() is None
        assert self.published == ["01", "02", "03"]
        assert self.is_whole()
        times = self.messages[-1]
        assert isinstance(times, Times)
        return times

    def is_whole(self) -> bool:
        """Whether the store has the epochs, each once."""
        return [len(self.history(epoch)) for epoch in self.epochs] == [1] * len(self.epochs)

    def history(self, epoch: int) -> Sequence[object]:
        """The checkpoints of an epoch in the store."""
        store = ArtifactStore(str(self.folder / "store"), self.folder / "cache")
        return store.history(f"tiny/model_checkpoint/{DATASET}/{epoch_key(epoch)}")


def in_queue(name: str) -> dict[str, object]:
    """What a family requests in order to wait in a queue of Kueue."""
    return {"kubernetes": {"config": {"job_metadata": {"labels": {QUEUE: name}}}}}


def interrupt_at(epoch: str) -> Callable[[object], None]:
    """Interrupts when the checkpoint of an epoch is reported."""

    def on_message(message: object) -> None:
        if getattr(message, "name", "").endswith(f"model_checkpoint/animals/{epoch}"):
            raise KeyboardInterrupt

    return on_message
