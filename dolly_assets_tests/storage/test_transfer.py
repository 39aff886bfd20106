"""Moving bytes: what is sent, what is not sent again, and who dies or interferes meanwhile."""

import logging
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage import ArtifactStore
from dolly_assets.storage.blobs import DamagedFileError
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.storage.files import contents

MIB = 2**20

PUBLISH_AND_DIE = """
import os, signal, sys
from pathlib import Path
from dolly_assets.storage import ArtifactStore
url, cache, tree, limit = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])

def die(done_bytes, total_bytes):
    if done_bytes >= limit:
        os.kill(os.getpid(), signal.SIGKILL)

ArtifactStore(url, cache).publish("a", tree, kind="k", on_progress=die)
os.kill(os.getpid(), signal.SIGKILL)
"""

PUBLISH_MANY = """
import sys
from pathlib import Path
from dolly_assets.storage import ArtifactStore
url, folder, who = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
store = ArtifactStore(url, folder / "cache")
print("ready", flush=True)
sys.stdin.readline()
for turn in range(10):
    store.publish("a", {"file": folder / "same"}, kind="k", made_by={"who": who, "turn": str(turn)})
"""


def test_a_second_publication_of_the_same_tree_sends_no_file(
    s3: str, tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server's own log shows which requests arrived."""
    store, sent_bytes = ArtifactStore(s3, tmp_path / "cache"), []

    def blob_writes() -> int:
        caplog.clear()
        sent_bytes.append(store.publish("a", tree, kind="k").manifest.sent_bytes)
        lines = [record.getMessage() for record in caplog.records if record.name == "werkzeug"]
        assert any("PUT" in line and "manifests" in line for line in lines)
        return sum(("PUT" in line or "POST" in line) and "blobs" in line for line in lines)

    with caplog.at_level(logging.INFO, logger="werkzeug"):
        assert blob_writes() >= 4
        assert blob_writes() == 0
    assert sent_bytes == [sum(map(len, contents(tree).values())), 0]


@pytest.mark.slow
def test_an_interrupted_upload_goes_on_within_a_file(
    s3: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped half way through a file of twelve chunks; each is put once over both tries."""
    chance = random.Random(3)
    (tmp_path / "big").write_bytes(b"".join(chance.randbytes(MIB) for _ in range(8 * 12)))
    store = ArtifactStore(s3, tmp_path / "cache")

    def stop(done_bytes: int, total_bytes: int) -> None:
        if done_bytes > total_bytes / 2:
            raise RuntimeError("stopped")

    with caplog.at_level(logging.INFO, logger="werkzeug"):
        with pytest.raises(RuntimeError, match="stopped"):
            store.upload({"big": tmp_path / "big"}, on_progress=stop)
        assert store.names() == []
        store.publish("a", {"big": tmp_path / "big"}, kind="k")
    puts = [
        record.getMessage().split()[6] for record in caplog.records if '"PUT' in record.getMessage()
    ]
    sent = [path for path in puts if "/blobs/" in path]
    assert len(sent) == len(set(sent)) == 12
    # A change at the end of it costs one chunk.
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="werkzeug"), (tmp_path / "big").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
        file.flush()
        store.publish("a", {"big": tmp_path / "big"}, kind="k")
    assert (
        sum(
            '"PUT' in record.getMessage() and "/blobs/" in record.getMessage()
            for record in caplog.records
        )
        == 1
    )


def test_progress_counts_every_byte_once_and_ends_at_the_total(
    any_store: ArtifactStore, tree: Path
) -> None:
    total_bytes = sum(map(len, contents(tree).values()))
    for _ in ("sent", "already there"):
        calls: list[tuple[int, int]] = []
        any_store.publish(
            "a", tree, kind="k", on_progress=lambda *call, calls=calls: calls.append(call)
        )
        assert calls == sorted(calls)
        assert {total for _, total in calls} == {total_bytes}
        assert calls[-1][0] == total_bytes


@pytest.mark.parametrize("sent", [0.001, 0.6, 1.0, 2.0])
@pytest.mark.slow
def test_a_killed_publication_leaves_nothing_or_a_whole_artifact(
    shared_url: str, tree: Path, tmp_path: Path, sent: float
) -> None:
    """Killed after the first file, within a file of several chunks, around the manifest."""
    limit_bytes = int(sent * sum(map(len, contents(tree).values())))
    command = [
        sys.executable,
        "-c",
        PUBLISH_AND_DIE,
        shared_url,
        tmp_path / "c",
        tree,
        str(limit_bytes),
    ]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    store = ArtifactStore(shared_url, tmp_path / "cache")
    found = store.latest("a")
    assert (found is not None) == (sent > 1)
    assert all(not one.damaged for one in store.verify())
    assert contents(store.publish("a", tree, kind="k").fetch()) == contents(tree)


@pytest.mark.slow
def test_two_processes_that_publish_one_name_lose_nothing(shared_url: str, tmp_path: Path) -> None:
    (tmp_path / "same").write_text("content")
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISH_MANY, shared_url, tmp_path, who],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in ("one", "other")
    ]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    for worker in workers:
        worker.communicate("go\n")
    history = ArtifactStore(shared_url, tmp_path / "cache").history("a")
    assert [worker.returncode for worker in workers] == [0, 0]
    assert len({found.uri for found in history}) == 20
    for who in ("one", "other"):
        turns = [
            int(found.manifest.made_by["turn"])
            for found in history
            if found.manifest.made_by["who"] == who
        ]
        assert turns == list(range(9, -1, -1))


def test_a_file_that_changes_while_it_is_sent_is_refused(
    any_store: ArtifactStore, tmp_path: Path
) -> None:
    """It changes after it was hashed, when its first part has been sent."""
    file = tmp_path / "growing"
    file.write_bytes(bytes(20 * MIB))

    def change(done_bytes: int, total_bytes: int) -> None:
        with file.open("r+b") as opened:
            opened.seek(19 * MIB)
            opened.write(b"new")

    with pytest.raises(ArtifactError, match="growing changed while it was being published"):
        any_store.publish("a", {"file": file}, kind="k", on_progress=change)
    assert any_store.latest("a") is None
    again = any_store.publish("a", {"file": file}, kind="k")
    assert again.read_bytes("file", 19 * MIB, 3) == b"new"


@pytest.mark.slow
def test_memory_is_bounded_by_chunks_and_not_by_files(tmp_path: Path) -> None:
    """A file of 256 MiB goes to a store and back; the process may grow by far less."""
    with (tmp_path / "big").open("wb") as file:
        file.truncate(256 * MIB)
    script = """
import resource, sys
from pathlib import Path
from dolly_assets.storage import ArtifactStore
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before, folder = peak(), Path(sys.argv[1])
store = ArtifactStore(str(folder / "store"), folder / "cache")
store.publish("a", {"f": folder / "big"}, kind="k").fetch()
print(peak() - before)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    grown_mib = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown_mib < 230


def small_files(folder: Path, numbers: range) -> Path:
    folder.mkdir()
    for number in numbers:
        (folder / f"{number:03}").write_text(f"small file {number}")
    return folder


def size_bytes(folder: Path, numbers: range) -> int:
    return sum((folder / f"{number:03}").stat().st_size for number in numbers)


def test_many_small_files_come_as_they_were(any_store: ArtifactStore, tmp_path: Path) -> None:
    tree = small_files(tmp_path / "tree", range(60))
    (tree / "same").write_bytes((tree / "040").read_bytes())
    (tree / "empty").touch()
    published = any_store.publish("a", tree, kind="k")
    assert published.manifest.sent_bytes == size_bytes(tree, range(60))
    assert contents(published.fetch()) == contents(tree)
    published.copy_to(tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(tree)


def test_of_many_small_files_only_those_that_the_store_lacks_are_sent(
    any_store: ArtifactStore, tmp_path: Path
) -> None:
    """Those that are there come after many that are not."""
    any_store.publish("a", small_files(tmp_path / "first", range(30, 60)), kind="k")
    tree = small_files(tmp_path / "second", range(90))
    published = any_store.publish("b", tree, kind="k")
    assert published.manifest.sent_bytes == size_bytes(tree, range(30)) + size_bytes(
        tree, range(60, 90)
    )
    assert contents(published.fetch()) == contents(tree)


def test_a_damaged_one_among_many_small_files_is_named_and_not_returned(
    any_store: ArtifactStore, tmp_path: Path
) -> None:
    published = any_store.publish("a", small_files(tmp_path / "tree", range(60)), kind="k")
    [damaged] = [entry for entry in published.manifest.files if entry.path == "033"]
    ObjectStore(any_store.url).write(damaged.blob_key, b"SMALL FILE 33")
    with pytest.raises(DamagedFileError, match=r"'033' is damaged"):
        published.fetch()
    with pytest.raises(DamagedFileError, match=r"'033' is damaged"):
        published.copy_to(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_small_file_that_changes_while_it_is_published_is_refused(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grows beyond a chunk after its size was read, which decides how it is sent."""
    source = tmp_path / "growing"
    source.write_bytes(b"small")

    def grow(done_bytes: int, total_bytes: int) -> None:
        if source.stat().st_size < MIB:
            source.write_bytes(b"x" * 40 * MIB)

    first = tmp_path / "first"
    first.write_bytes(b"sent before")
    many = {f"first {number}": first for number in range(20)}
    with pytest.raises(ArtifactError, match="growing changed while it was being published"):
        store.publish("a", {**many, "growing": source}, kind="k", on_progress=grow)


def test_a_link_out_of_the_folder_is_refused_and_one_within_it_is_followed(
    store: ArtifactStore, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"content")
    (folder / "inside").symlink_to("file")
    assert store.publish("a", folder, kind="k").read_bytes("inside") == b"content"
    (folder / "outside").symlink_to("/proc/self/environ")
    with pytest.raises(ArtifactError, match=r"outside: it is a link to .*, outside"):
        store.publish("a", folder, kind="k")
