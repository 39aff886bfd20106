"""The local launcher with real workers: their messages, their ends, and that nothing is left."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dolly_assets.core.errors import ConfigurationError, DollyError, WorkerError
from dolly_assets.family import ModelFamily
from dolly_assets.launchers.local import LocalLauncher
from dolly_assets.worker.messages import Log, Message, Published
from dolly_assets.worker.spec import ArtifactRef, PrepareBaseModel, WorkerSpec
from dolly_assets_tests.tiny_training import DATASET, Workbench

pytestmark = pytest.mark.slow

END_SECONDS = 60


@pytest.fixture
def launcher() -> LocalLauncher:
    return LocalLauncher()


@pytest.fixture(autouse=True)
def nothing_stays_behind(tmp_path: Path) -> Iterator[None]:
    """Whatever a test does, no process that has to do with its folder is left."""
    yield
    _, alive = psutil.wait_procs(processes_of(tmp_path), END_SECONDS)
    assert not alive


def processes_of(folder: Path) -> list[psutil.Process]:
    """All processes of this machine that were started with a path in the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(
                str(folder) in word for word in process.cmdline()
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def ranks_of(folder: Path) -> list[psutil.Process]:
    """The ranks of a training in the folder: torchrun's children."""
    workers = [
        process for process in processes_of(folder) if "dolly_assets.worker" in process.cmdline()
    ]
    return [
        process for process in workers if "dolly_assets.worker.torchrun" not in process.cmdline()
    ]


def with_compute(family: ModelFamily, **compute: int) -> ModelFamily:
    return family.model_copy(update={"compute": family.compute.model_copy(update=compute)})


def test_messages_come_in_order_in_the_callers_thread_while_the_worker_runs(
    launcher: LocalLauncher, workbench: Workbench, tmp_path: Path
) -> None:
    """A training on one rank; the launcher needs no torchrun for it."""
    seen: list[tuple[str, threading.Thread, int]] = []

    def on_message(message: Message) -> None:
        if isinstance(message, Published):
            seen.append((message.name, threading.current_thread(), len(ranks_of(tmp_path))))

    spec = workbench.spec(
        workbench.train(0, 1), tmp_path / "scratch", with_compute(workbench.family, cpu_ranks=1)
    )
    launcher.run(spec, on_message)
    assert [name for name, _, _ in seen] == [
        f"tiny/{asset}/{DATASET}/{epoch}"
        for epoch in ("00", "01")
        for asset in ("gpu_profile", "model_checkpoint")
    ]
    assert {thread for _, thread, _ in seen} == {threading.current_thread()}
    assert [running for _, _, running in seen[:2]] == [1, 1]
    for name, _, _ in seen:
        assert workbench.store.latest(name)


@pytest.mark.long
def test_a_training_keeps_what_it_reads_in_a_cache_that_is_too_small_for_it(
    launcher: LocalLauncher, workbench: Workbench, tmp_path: Path
) -> None:
    """Base model and dataset are in use; what an earlier process has read is deleted for them."""
    cache = tmp_path / "cache"
    unused = workbench.store.publish("unused", {"file": Path(__file__)}, kind="k")
    code = (
        "import sys; from pathlib import Path; from dolly_assets.storage import ArtifactStore; "
        "ArtifactStore(sys.argv[1], Path(sys.argv[2])).latest('unused').fetch()"
    )
    subprocess.run([sys.executable, "-c", code, workbench.store.url, str(cache)], check=True)
    assert (cache / "trees" / unused.digest).is_dir()
    spec = workbench.spec(
        workbench.train(1, 1), tmp_path / "scratch", with_compute(workbench.family, cpu_ranks=1)
    ).model_copy(update={"cache_dir": cache, "cache_limit_bytes": 1})
    published: list[Message] = []
    launcher.run(spec, published.append)
    names = [message.name for message in published if isinstance(message, Published)]
    assert names[-1] == f"tiny/model_checkpoint/{DATASET}/01"
    assert not (cache / "trees" / unused.digest).exists()
    for asset, partition in (("base_model", ()), ("tokenized_dataset", (DATASET,))):
        assert (cache / "trees" / workbench.latest(asset, *partition).manifest.tree_digest).is_dir()


def test_an_error_that_the_user_can_put_right_comes_back_with_its_own_text(
    launcher: LocalLauncher, workbench: Workbench, tmp_path: Path
) -> None:
    base_model = workbench.family.base_model.model_copy(
        update={"untrained": None, "source": str(tmp_path / "nothing")}
    )
    family = workbench.family.model_copy(update={"base_model": base_model})
    with pytest.raises(DollyError) as raised:
        launcher.run(
            workbench.spec(PrepareBaseModel(), tmp_path / "scratch", family), lambda _: None
        )
    assert not isinstance(raised.value, WorkerError)
    text = (
        f"{tmp_path}/nothing: no such file or folder; relative paths count from the YAML file's "
        "folder"
    )
    assert str(raised.value) == text


def test_a_crash_names_the_error_and_the_log_that_has_its_traceback(
    launcher: LocalLauncher, workbench: Workbench, tmp_path: Path
) -> None:
    """A tokenized dataset without its columns, which no task of ours publishes."""
    (tmp_path / "tree").mkdir()
    import pyarrow as pa

    with pa.ipc.new_file(
        tmp_path / "tree" / "train.arrow", pa.schema({"other": pa.int64()})
    ) as writer:
        writer.write_table(pa.table({"other": list(range(50))}))
    odd = workbench.store.publish(
        "odd/tokenized_dataset", tmp_path / "tree", kind="tokenized_dataset"
    )
    task = workbench.train(1, 1).model_copy(
        update={"tokenized_dataset": ArtifactRef(name=odd.name, digest=odd.digest)}
    )
    spec = workbench.spec(task, tmp_path / "scratch", with_compute(workbench.family, cpu_ranks=1))
    with pytest.raises(WorkerError, match=r"^rank 0: KeyError: .*; the worker's log is ") as raised:
        launcher.run(spec, lambda _: None)
    log = tmp_path / "scratch" / "worker.log"
    assert str(raised.value).endswith(str(log))
    assert "Traceback (most recent call last)" in log.read_text()


def test_a_killed_rank_ends_the_others_and_what_was_published_stays(
    launcher: LocalLauncher, workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine without a compiler, where DeepSpeed's own op for CPU ranks cannot be built."""
    (tmp_path / "no compilers").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "no compilers"))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "nothing built before"))
    family = with_compute(
        workbench.family.model_copy(
            update={"recipe": workbench.family.recipe.model_copy(update={"epochs": 40})}
        ),
        cpu_ranks=2,
    )
    killed: list[psutil.Process] = []
    published: list[Published] = []

    def on_message(message: Message) -> None:
        if isinstance(message, Published):
            published.append(message)
        if len(published) == 2 and not killed:
            ranks = ranks_of(tmp_path)
            assert len(ranks) == 2
            killed.append(ranks[1])
            ranks[1].kill()

    with pytest.raises(WorkerError, match=r"its log is .*/scratch/worker\.log"):
        launcher.run(
            workbench.spec(workbench.train(1, 40), tmp_path / "scratch", family), on_message
        )
    assert killed
    assert not ranks_of(tmp_path)
    for message in published:
        workbench.store.get(message.name, message.digest).fetch()


def test_ranks_end_by_themselves_when_the_process_that_launched_them_is_killed(
    workbench: Workbench, tmp_path: Path
) -> None:
    """SIGKILL, which no handler sees: the ranks notice that the pipe they read is closed."""
    family = with_compute(
        workbench.family.model_copy(
            update={"recipe": workbench.family.recipe.model_copy(update={"epochs": 40})}
        ),
        cpu_ranks=2,
    )
    spec = tmp_path / "spec.json"
    spec.write_text(
        workbench.spec(workbench.train(1, 40), tmp_path / "scratch", family).model_dump_json()
    )
    launching = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(spec)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert launching.stdout
    assert any(line.startswith("tiny/gpu_profile") for line in launching.stdout)
    tree = psutil.Process(launching.pid).children(recursive=True)
    assert len(ranks_of(tmp_path)) == 2
    launching.kill()
    launching.communicate()
    _, alive = psutil.wait_procs(tree, END_SECONDS)
    assert not alive


LAUNCH = """
import sys
from pathlib import Path
from dolly_assets.launchers.local import LocalLauncher
from dolly_assets.worker.spec import WorkerSpec

spec = WorkerSpec.model_validate_json(Path(sys.argv[1]).read_bytes())
LocalLauncher().run(spec, lambda message: print(getattr(message, "name", "-"), flush=True))
"""


def test_an_exception_while_following_ends_the_worker(
    launcher: LocalLauncher, workbench: Workbench, tmp_path: Path
) -> None:
    def on_message(message: Message) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        launcher.run(workbench.spec(PrepareBaseModel(), tmp_path / "scratch"), on_message)
    assert not processes_of(tmp_path)


def test_more_than_one_node_is_refused_before_anything_starts(
    launcher: LocalLauncher, workbench: Workbench, tmp_path: Path
) -> None:
    spec = workbench.spec(
        workbench.train(1, 1), tmp_path / "scratch", with_compute(workbench.family, nodes=2)
    )
    with pytest.raises(
        ConfigurationError, match="tiny requests 2 nodes, but training on this machine has one"
    ):
        launcher.run(spec, lambda _: None)
    assert not (tmp_path / "scratch" / "worker.log").exists()


def test_ranks_that_cannot_share_the_batch_are_refused_before_anything_starts(
    launcher: LocalLauncher, workbench: Workbench, tmp_path: Path
) -> None:
    spec = workbench.spec(
        workbench.train(1, 1), tmp_path / "scratch", with_compute(workbench.family, cpu_ranks=3)
    )
    with pytest.raises(DollyError, match="cannot be shared by 3 ranks"):
        launcher.run(spec, lambda _: None)


def test_the_base_model_alone_is_published_without_a_training(
    launcher: LocalLauncher, workbench: Workbench, tmp_path: Path
) -> None:
    """Epoch 0 alone: one process, whatever the family's number of ranks."""
    messages: list[Message] = []
    spec: WorkerSpec = workbench.spec(
        workbench.train(0, 0), tmp_path / "scratch", with_compute(workbench.family, cpu_ranks=2)
    )
    launcher.run(spec, messages.append)
    names = [message.name for message in messages if isinstance(message, Published)]
    assert names == [f"tiny/gpu_profile/{DATASET}/00", f"tiny/model_checkpoint/{DATASET}/00"]
    assert not [message for message in messages if isinstance(message, Log)]
