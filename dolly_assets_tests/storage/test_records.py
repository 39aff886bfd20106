"""Records are read once on a machine, and only the store says which there are and what they hold.

The server's own log shows which requests arrived.
"""

import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage import ArtifactStore, RetentionPolicy
from dolly_assets.storage.object_store import ObjectStore

NAMES = [f"family/model_checkpoint/{dataset}/{epoch:02}" for dataset in "ab" for epoch in range(6)]
Requests = Callable[[], list[str]]


@pytest.fixture
def requests(caplog: pytest.LogCaptureFixture) -> Requests:
    """What the server has been asked for since the last call: methods, and what is read."""
    caplog.set_level(logging.INFO, logger="werkzeug")

    def since() -> list[str]:
        lines = [record.getMessage() for record in caplog.records if record.name == "werkzeug"]
        caplog.clear()
        asked = [match.groups() for line in lines if (match := re.search(r'"(\w+) (\S+) ', line))]
        return [
            "list" if "list-type" in path else "record" if "/manifests/" in path else method
            for method, path in asked
        ]

    return since


@pytest.fixture
def filled(s3: str, tmp_path: Path) -> ArtifactStore:
    """A store on S3, published to from another machine."""
    store = ArtifactStore(s3, tmp_path / "other machine")
    for name in NAMES:
        publish(store, tmp_path, name, "first")
        publish(store, tmp_path, name, "second")
    return ArtifactStore(s3, tmp_path / "cache")


def publish(store: ArtifactStore, folder: Path, name: str, text: str) -> None:
    (folder / "content").write_text(f"{name} {text}")
    store.publish(name, {"content": folder / "content"}, kind="k", attributes={"text": text})


def texts(store: ArtifactStore) -> list[object]:
    return [each.manifest.attributes["text"] for each in store.newest()]


def test_a_second_list_reads_no_record_again(
    filled: ArtifactStore, tmp_path: Path, requests: Requests
) -> None:
    requests()
    assert texts(filled) == ["second"] * len(NAMES)
    assert requests() == ["list"] + ["record"] * len(NAMES)
    again = ArtifactStore(filled.url, tmp_path / "cache")
    assert [each.name for each in again.newest()] == NAMES
    assert requests() == ["list"]
    assert [each.name for each in again.newest("family/model_checkpoint/b")] == NAMES[6:]
    assert again.latest(NAMES[0])
    assert requests() == ["list"] * 2
    publish(again, tmp_path, NAMES[3], "third")
    requests()
    assert sorted(map(str, texts(again))) == ["second"] * 11 + ["third"]
    assert requests() == ["list", "record"]


def test_a_dry_run_of_garbage_collection_reads_each_record_once(
    filled: ArtifactStore, requests: Requests
) -> None:
    policy = RetentionPolicy(grace_hours=0)
    filled.collect_garbage(policy, protected=set())
    assert requests().count("record") == 2 * len(NAMES)
    assert not filled.collect_garbage(policy, protected=set()).blobs
    assert set(requests()) == {"list"}


def test_a_snapshot_looks_up_names_without_asking(
    filled: ArtifactStore, tmp_path: Path, requests: Requests
) -> None:
    now = filled.snapshot()
    requests()
    publish(filled, tmp_path, "family/model_checkpoint/c/01", "later")
    requests()
    found = [now.latest(name) for name in (*NAMES, "family/model_checkpoint/c/01")]
    assert [each.name for each in found if each] == NAMES
    assert requests() == ["record"] * len(NAMES)
    assert len(now.history(NAMES[0])) == 2


def test_a_record_that_was_changed_or_deleted_is_not_remembered(
    filled: ArtifactStore, s3: str
) -> None:
    raw, artifact = ObjectStore(s3), filled.latest(NAMES[0])
    assert artifact
    assert [*filled.newest()]
    raw.write(artifact.manifest.key, b"{}")
    with pytest.raises(ArtifactError, match=re.escape(f"manifest {artifact.manifest.key}")):
        filled.latest(NAMES[0])
    raw.delete([artifact.manifest.key])
    before = filled.latest(NAMES[0])
    assert before
    assert before.manifest.attributes["text"] == "first"


@contextmanager
def taken(file: Path) -> Iterator[None]:
    file.unlink()
    file.mkdir()
    yield
    file.rmdir()


@contextmanager
def damaged(file: Path) -> Iterator[None]:
    file.write_bytes(b"no database at all" * 1000)
    yield


@contextmanager
def flipped(file: Path) -> Iterator[None]:
    data = file.read_bytes()
    at = data.index(b"second")
    file.write_bytes(data[:at] + b"Second" + data[at + 6 :])
    yield


@pytest.mark.parametrize("harm", [taken, damaged, flipped])
def test_whatever_is_wrong_with_this_machines_memory_the_store_is_asked(
    filled: ArtifactStore, tmp_path: Path, harm: Callable[[Path], AbstractContextManager[None]]
) -> None:
    assert texts(filled) == ["second"] * len(NAMES)
    [memory] = (tmp_path / "cache" / "records").iterdir()
    with harm(memory):
        assert texts(filled) == ["second"] * len(NAMES)
    shutil.rmtree(tmp_path / "cache")
    assert texts(filled) == ["second"] * len(NAMES)
