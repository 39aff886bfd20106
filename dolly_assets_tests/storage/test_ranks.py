"""Several processes publish one artifact; whichever is killed, it is complete or absent."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage import ArtifactStore

RANKS = 3
PUBLISH = """
import sys
from pathlib import Path
from dolly_assets.storage import ArtifactStore
url, folder, attempt, rank = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
tree = {f"state/{rank}": folder / str(rank), f"weights/{rank}": folder / f"w{rank}"}
store = ArtifactStore(url, folder / "cache")
print("ready", flush=True)
store.publish_rank(
    "a", tree, attempt=attempt, rank=rank, ranks=3, timeout_seconds=float(sys.argv[5]), kind="k"
)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for rank in range(RANKS):
        (tmp_path / str(rank)).write_bytes(bytes([rank]) * 9_000_000)
        (tmp_path / f"w{rank}").write_text(f"weights of rank {rank}")
    return tmp_path


def _start(
    url: str, folder: Path, attempt: str, timeout_seconds: int = 60
) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", PUBLISH, url, folder, attempt]
    return [
        subprocess.Popen(
            [*command, str(rank), str(timeout_seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(RANKS)
    ]


def _end(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    for process in processes:
        process.communicate()
    return [process.returncode for process in processes]


@pytest.mark.slow
def test_ranks_in_processes_of_their_own_publish_one_artifact(
    shared_url: str, folder: Path
) -> None:
    store = ArtifactStore(shared_url, folder / "cache")
    assert _end(_start(shared_url, folder, "run7-epoch1-try1")) == [0] * RANKS
    [artifact] = store.history("a")
    assert sorted(entry.path for entry in artifact.manifest.files) == [
        f"{kind}/{rank}" for kind in ("state", "weights") for rank in range(RANKS)
    ]
    assert artifact.read_bytes("state/2", 8_999_990) == b"\x02" * 10
    with pytest.raises(ArtifactError, match="rank 0, 1, 2 of 3"):
        store.commit_ranks(
            "a", attempt="run7-epoch1-try1", ranks=RANKS, timeout_seconds=0, kind="k"
        )


@pytest.mark.slow
def test_a_killed_rank_leaves_nothing_published_and_the_next_attempt_succeeds(
    shared_url: str, folder: Path
) -> None:
    store = ArtifactStore(shared_url, folder / "cache")
    chance = random.Random(7)
    for rank in range(RANKS):
        processes = _start(shared_url, folder, f"try{rank}", timeout_seconds=1)
        stdout = processes[rank].stdout
        assert stdout is not None
        stdout.readline()
        time.sleep(chance.uniform(0, 0.02))  # somewhere in its upload
        processes[rank].send_signal(signal.SIGKILL)
        ended = _end(processes)
        assert ended[rank] == -signal.SIGKILL
        assert ended[0] != 0  # it was killed, or waited in vain
        assert store.names() == []
    assert _end(_start(shared_url, folder, "last")) == [0] * RANKS
    assert [finding.damaged for finding in store.verify()] == [()]


def test_a_rank_cannot_announce_twice_different_files(
    any_store: ArtifactStore, folder: Path
) -> None:
    any_store.upload_rank({"a": folder / "w0"}, attempt="x", rank=0)
    any_store.upload_rank({"a": folder / "w0"}, attempt="x", rank=0)
    with pytest.raises(ArtifactError, match="rank 0 has announced other files in attempt 'x'"):
        any_store.upload_rank({"a": folder / "w1"}, attempt="x", rank=0)
    any_store.upload_rank({"a": folder / "w1"}, attempt="x", rank=1)
    with pytest.raises(ArtifactError, match="listed twice"):
        any_store.commit_ranks("a", attempt="x", ranks=2, timeout_seconds=0, kind="k")


@pytest.mark.parametrize("attempt", ["", "..", "a/b", "a b"])
def test_an_attempt_id_that_could_climb_is_refused(
    any_store: ArtifactStore, folder: Path, attempt: str
) -> None:
    with pytest.raises(ArtifactError, match="attempt id"):
        any_store.upload_rank({"a": folder / "w0"}, attempt=attempt, rank=0)
