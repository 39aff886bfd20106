"""The copies on this machine: verified, read-only, shared, and deleted only when unused."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dolly_assets.components.code_location import resources
from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage import Artifact, ArtifactStore, open_store
from dolly_assets.storage.io_manager import StoreSettings
from dolly_assets.worker.spec import PrepareBaseModel, WorkerSpec
from dolly_assets_tests.storage.files import contents, flip_a_bit
from dolly_assets_tests.tiny_training import tiny_family

pytestmark = pytest.mark.slow

MIB = 2**20

FETCH = """
import sys
from pathlib import Path
from dolly_assets.storage import ArtifactStore
store = ArtifactStore(sys.argv[1], Path(sys.argv[2]))
for name in sys.argv[3:]:
    print(store.latest(name).fetch(), flush=True)
sys.stdin.readline()
"""

PUBLISH_AND_FETCH_AS_USER = """
import os, sys
from pathlib import Path
from dolly_assets.storage import ArtifactStore
if os.geteuid() == 0:
    os.setuid(65534)
folder = Path(sys.argv[1])
store = ArtifactStore(str(folder / "store"), folder / "cache")
print(store.publish("a", folder / "tree", kind="k").fetch())
"""


def _start_fetching(url: str, cache: Path, *names: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FETCH, url, str(cache), *names]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _publish(store: ArtifactStore, folder: Path, name: str, content: bytes) -> Artifact:
    (folder / "file").write_bytes(content)
    return store.publish(name, {"file": folder / "file"}, kind="k")


def _used_bytes(cache: Path) -> int:
    return sum(path.stat().st_size for path in (cache / "sha256").rglob("*") if path.is_file())


def test_fetched_files_are_read_only_and_shared(
    any_store: ArtifactStore, tree: Path, tmp_path: Path
) -> None:
    first = any_store.publish("a", tree, kind="k").fetch()
    (tree / "empty").write_text("not any more")
    second = any_store.publish("b", tree, kind="k").fetch()
    assert first != second
    for path in contents(first):
        assert (first / path).stat().st_mode & 0o222 == 0
    assert (first / "weights" / "config.json").samefile(second / "weights" / "config.json")


def test_a_changed_copy_is_reported_and_replaced_by_the_published_content(
    any_store: ArtifactStore, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Writing into a fetched file writes into the cache; no fetch and no read returns that."""
    artifact = any_store.publish("a", tree, kind="k")
    path = "weights/model.safetensors"
    local = artifact.local_file(path)
    expected = (tree / path).read_bytes()
    with caplog.at_level(logging.WARNING):
        flip_a_bit(local)
        assert artifact.read_bytes(path) == expected
        flip_a_bit(artifact.local_file(path))
        assert artifact.fetch("weights").joinpath("model.safetensors").read_bytes() == expected
    assert "was changed or damaged" in caplog.text


def test_another_process_notices_a_changed_copy_too(
    store: ArtifactStore, tree: Path, tmp_path: Path
) -> None:
    artifact = store.publish("a", tree, kind="k")
    flip_a_bit(artifact.local_file("weights/config.json"))
    process = _start_fetching(store.url, tmp_path / "cache", "a")
    process.communicate("done\n")
    assert contents(artifact.fetch()) == contents(tree)
    assert process.returncode == 0


def test_the_longest_unused_trees_are_dropped_first(s3: str, tmp_path: Path) -> None:
    """Fetched by processes that have ended, so that nothing is in use."""
    unlimited = ArtifactStore(s3, tmp_path / "cache")
    for index, name in enumerate(("old", "older", "new")):
        _publish(unlimited, tmp_path, name, bytes([index]) * MIB)
    _start_fetching(s3, tmp_path / "cache", "old", "older", "old").communicate("done\n")
    limited = ArtifactStore(s3, tmp_path / "cache", cache_limit_bytes=2 * MIB)
    new = limited.latest("new")
    assert new is not None
    assert new.fetch().joinpath("file").read_bytes() == b"\x02" * MIB
    assert _used_bytes(tmp_path / "cache") == 2 * MIB
    assert len(list((tmp_path / "cache" / "trees").rglob("file"))) == 2
    old, older = limited.latest("old"), limited.latest("older")
    assert old is not None
    assert older is not None
    assert (tmp_path / "cache" / "trees" / old.digest / "file").exists()
    assert not (tmp_path / "cache" / "trees" / older.digest).exists()
    assert older.fetch().joinpath("file").read_bytes() == b"\x01" * MIB


def test_a_tree_in_use_by_any_process_is_never_dropped(s3: str, tmp_path: Path) -> None:
    limited = ArtifactStore(s3, tmp_path / "cache", cache_limit_bytes=0)
    for index, name in enumerate(("theirs", "ours", "third")):
        _publish(limited, tmp_path, name, bytes([index]) * 1000)
    process = _start_fetching(s3, tmp_path / "cache", "theirs")
    assert process.stdout is not None
    theirs = Path(process.stdout.readline().strip())
    ours, third = limited.latest("ours"), limited.latest("third")
    assert ours is not None
    assert third is not None
    ours_folder = ours.fetch()
    third_folder = third.fetch()
    kept = [
        folder.joinpath("file").read_bytes()[0] for folder in (theirs, ours_folder, third_folder)
    ]
    assert kept == [0, 1, 2]
    process.communicate("done\n")
    _publish(limited, tmp_path, "fourth", b"4").fetch()
    assert not theirs.exists()
    assert ours_folder.exists()


def test_the_environments_limit_holds_for_every_way_to_open_the_store(
    s3: str, tmp_path: Path
) -> None:
    """The command line's store, the resource's and a worker's: each evicts what is unused."""
    _publish(ArtifactStore(s3, tmp_path / "publisher"), tmp_path, "old", b"old")
    _publish(ArtifactStore(s3, tmp_path / "publisher"), tmp_path, "new", b"new")
    variables = {"DOLLY_STORE": s3, "DOLLY_CACHE_GB": "0.000000001"}
    for way in ("command line", "resource", "worker"):
        environment = Environment.read({**variables, "DOLLY_HOME": str(tmp_path / way)})
        _start_fetching(s3, environment.cache_dir, "old").communicate("done\n")
        assert _used_bytes(environment.cache_dir) == 3
        store = _opened(environment, way)
        newest = store.latest("new")
        assert newest
        assert newest.fetch().joinpath("file").read_bytes() == b"new"
        assert [path.read_bytes() for path in (environment.cache_dir / "trees").rglob("file")] == [
            b"new"
        ]


def _opened(environment: Environment, way: str) -> ArtifactStore:
    if way == "command line":
        return open_store(environment)
    resource = resources(environment)["store"]
    assert isinstance(resource, StoreSettings)
    if way == "resource":
        return resource.open()
    return WorkerSpec(
        family=tiny_family(),
        task=PrepareBaseModel(),
        store_url=resource.url,
        cache_dir=Path(resource.cache_dir),
        cache_limit_bytes=resource.cache_limit_bytes,
        scratch_dir=environment.scratch_dir,
        made_by={},
    ).open_store()


def test_processes_fill_one_cache_at_the_same_time(s3: str, tree: Path, tmp_path: Path) -> None:
    ArtifactStore(s3, tmp_path / "other").publish("a", tree, kind="k")
    processes = [_start_fetching(s3, tmp_path / "cache", "a") for _ in range(2)]
    folders = {process.communicate("done\n")[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert contents(Path(folders.pop())) == contents(tree)
    assert not folders
    assert not list((tmp_path / "cache" / "temporary").iterdir())


def test_whoever_may_write_to_fetched_files_cannot_change_a_local_stores_only_copy(
    tree: Path,
) -> None:
    """Run as root, the test becomes another user, whose chmod is what makes files writable."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        shutil.copytree(tree, Path(folder, "tree"))
        command = [sys.executable, "-c", PUBLISH_AND_FETCH_AS_USER, folder]
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        fetched = Path(process.stdout.strip())
        for path in fetched.rglob("*"):
            if path.is_file():
                path.chmod(0o644)
                path.write_bytes(b"changed!")
        store = ArtifactStore(str(Path(folder, "store")), Path(folder, "another cache"))
        assert [found.damaged for found in store.verify()] == [()]
        again = ArtifactStore(store.url, Path(folder, "cache")).latest("a")
        assert again is not None
        assert contents(again.fetch()) == contents(tree)


def test_a_process_keeps_no_descriptor_for_what_it_has_fetched(
    store: ArtifactStore, tmp_path: Path
) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(50):
        _publish(store, tmp_path, f"a{number}", str(number).encode()).fetch()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


def test_a_cache_that_was_emptied_under_a_living_process_is_filled_again(
    store: ArtifactStore, tree: Path, tmp_path: Path
) -> None:
    artifact = store.publish("a", tree, kind="k")
    artifact.fetch()
    shutil.rmtree(tmp_path / "cache")
    assert contents(artifact.fetch()) == contents(tree)
    limited = ArtifactStore(store.url, tmp_path / "cache", cache_limit_bytes=0)
    _publish(limited, tmp_path, "b", b"other").fetch()
    assert contents(artifact.fetch()) == contents(tree)


def test_temporaries_of_killed_processes_are_deleted_without_a_limit_too(
    store: ArtifactStore, tree: Path, tmp_path: Path
) -> None:
    left = [tmp_path / "cache" / folder / "left" for folder in ("temporary", "processes")]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    store.publish("a", tree, kind="k").fetch()
    assert not any(path.exists() for path in left)


def test_a_cache_that_cannot_be_written_is_named(
    store: ArtifactStore, tree: Path, tmp_path: Path
) -> None:
    store.publish("a", tree, kind="k")
    (tmp_path / "occupied").write_text("a file")
    artifact = ArtifactStore(store.url, tmp_path / "occupied").latest("a")
    assert artifact is not None
    with pytest.raises(ArtifactError, match="occupied fails: Not a directory"):
        artifact.fetch()
