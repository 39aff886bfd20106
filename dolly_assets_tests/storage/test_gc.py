"""Garbage collection: what it deletes, what it keeps, and processes that publish meanwhile."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dolly_assets.core.errors import ArtifactError, ConfigurationError
from dolly_assets.storage import Artifact, ArtifactStore, RetentionPolicy, Rule, verification
from dolly_assets.storage.gc import collect_garbage, read_dropped
from dolly_assets.storage.locks import Lease, committing, sweeping
from dolly_assets.storage.object_store import ObjectInfo, ObjectStore
from dolly_assets.storage.ranks import announce
from dolly_assets.storage.records import Records
from dolly_assets_tests.storage.files import contents, flip_a_bit

AT_ONCE = RetentionPolicy(grace_hours=0)
OF_EPOCHS = RetentionPolicy(
    grace_hours=0,
    rules=(Rule(artifacts="*/model_checkpoint/*", publications=2, folders={"state": 2}),),
)

PUBLISH_AT_RANDOM = """
import random
import sys
import time
from pathlib import Path
from dolly_assets.storage import ArtifactStore
url, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
store = ArtifactStore(url, folder / "cache")
print("ready", flush=True)
end = time.monotonic() + seconds
chance = random.Random(1)
while time.monotonic() < end:
    (folder / "own").write_text(str(chance.randrange(100)))
    store.publish("a", {"own": folder / "own", "same": folder / "same"}, kind="k")
"""

HOLD = """
import sys
from dolly_assets.storage.locks import committing
from dolly_assets.storage.object_store import ObjectInfo, ObjectStore
with committing(ObjectStore(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def _checkpoint(store: ArtifactStore, folder: Path, epoch: int, text: str = "") -> Artifact:
    weights, state = folder / f"w{epoch}{text}", folder / f"s{epoch}{text}"
    weights.write_text(f"weights {epoch} {text}")
    state.write_text(f"state {epoch} {text}")
    tree = {"weights/model": weights, "state/optimizer": state}
    return store.publish(f"demo/model_checkpoint/alpaca/{epoch:02}", tree, kind="model_checkpoint")


def test_only_what_no_record_names_is_removed(
    any_store: ArtifactStore, tree: Path, tmp_path: Path
) -> None:
    kept = any_store.publish("a", tree, kind="k")
    (tmp_path / "lost").write_text("uploaded and never committed")
    lost = any_store.upload({"lost": tmp_path / "lost"})
    found = any_store.collect_garbage(AT_ONCE, protected=set())
    assert (found.blobs, found.blob_bytes, found.removed) == (1, lost[0].size_bytes, False)
    assert any_store.collect_garbage(AT_ONCE, protected=set(), delete=True).blobs == 1
    assert any_store.collect_garbage(AT_ONCE, protected=set(), delete=True).blobs == 0
    assert contents(kept.fetch()) == contents(tree)
    with pytest.raises(ArtifactError, match="upload them first"):
        any_store.commit("b", lost, kind="k")


def test_the_newest_publications_of_a_name_and_the_protected_ones_stay(
    any_store: ArtifactStore, tmp_path: Path
) -> None:
    published = [_checkpoint(any_store, tmp_path, 1, text) for text in "abcde"]
    found = any_store.collect_garbage(OF_EPOCHS, protected={published[1].digest}, delete=True)
    assert len(found.records) == 2
    left = any_store.history("demo/model_checkpoint/alpaca/01")
    assert [one.digest for one in left] == [published[index].digest for index in (4, 3, 1)]
    assert all(one.read_bytes("weights/model") for one in left)
    assert [finding.damaged for finding in any_store.verify()] == [()] * 3


def test_training_state_of_the_last_epochs_stays_and_weights_of_all(
    any_store: ArtifactStore, tmp_path: Path
) -> None:
    epochs = [_checkpoint(any_store, tmp_path, epoch) for epoch in (1, 2, 3, 4)]
    current = {epoch.digest for epoch in epochs}
    found = any_store.collect_garbage(OF_EPOCHS, protected=current)
    assert [(key.split("/")[4], folder) for key, folder in found.folders] == [
        ("02", "state"),
        ("01", "state"),
    ]
    assert all(epoch.is_complete() for epoch in epochs)
    any_store.collect_garbage(OF_EPOCHS, protected=current, delete=True)
    assert [epoch.is_complete("state") for epoch in epochs] == [False, False, True, True]
    assert all(epoch.is_complete("weights") for epoch in epochs)
    assert epochs[3].read_bytes("state/optimizer") == b"state 4 "
    assert (
        any_store.get(epochs[0].name, epochs[0].digest)
        .fetch("weights")
        .joinpath("model")
        .read_text()
    )
    for read in (epochs[0].fetch, lambda: epochs[0].read_bytes("state/optimizer")):
        with pytest.raises(
            ArtifactError, match=r"01: its state/ was deleted by garbage collection on 20.*fetched"
        ):
            read()
    assert [finding.damaged for finding in any_store.verify()] == [()] * 4
    assert any_store.collect_garbage(OF_EPOCHS, protected=current, delete=True).folders == []


def test_a_dropped_state_is_whole_again_when_it_is_published_anew(
    any_store: ArtifactStore, tmp_path: Path
) -> None:
    for epoch in (1, 2, 3):
        _checkpoint(any_store, tmp_path, epoch)
    any_store.collect_garbage(OF_EPOCHS, protected=set(), delete=True)
    assert not any_store.history("demo/model_checkpoint/alpaca/01")[0].is_complete()
    assert _checkpoint(any_store, tmp_path, 1).is_complete()
    any_store.collect_garbage(OF_EPOCHS, protected=set(), delete=True)
    held = [
        any_store.history(f"demo/model_checkpoint/alpaca/0{epoch}")[0].is_complete()
        for epoch in (1, 2, 3)
    ]
    assert held == [True, False, True]


def test_young_content_stays(store: ArtifactStore, tree: Path, tmp_path: Path) -> None:
    store.upload(tree)
    assert store.collect_garbage(RetentionPolicy(), protected=set(), delete=True).blobs == 0
    a_day_ago = time.time() - timedelta(hours=25).total_seconds()
    for path in (tmp_path / "store" / "blobs").rglob("*"):
        os.utime(path, (a_day_ago, a_day_ago))
    assert store.collect_garbage(RetentionPolicy(), protected=set(), delete=True).blobs == 5


@pytest.mark.parametrize(("folder", "days"), [("live", 7), ("messages", 30)])
def test_what_was_of_use_while_a_worker_ran_stays_for_a_while(
    store: ArtifactStore, tmp_path: Path, folder: str, days: int
) -> None:
    objects = ObjectStore(store.url)
    for name, age in (("young", timedelta(days=days - 1)), ("old", timedelta(days=days + 1))):
        objects.write(f"{folder}/{name}", b"said")
        when = time.time() - age.total_seconds()
        os.utime(tmp_path / "store" / folder / name, (when, when))
    store.collect_garbage(RetentionPolicy(), protected=set())
    assert objects.keys(folder) == [f"{folder}/old", f"{folder}/young"]
    store.collect_garbage(RetentionPolicy(), protected=set(), delete=True)
    assert objects.keys(folder) == [f"{folder}/young"]


def test_nothing_is_removed_while_a_record_cannot_be_read(
    store: ArtifactStore, tree: Path, tmp_path: Path
) -> None:
    record = tmp_path / "store" / store.publish("a", tree, kind="k").manifest.key
    intact = record.read_bytes()
    flip_a_bit(record)
    with pytest.raises(ArtifactError, match="is damaged"):
        store.collect_garbage(AT_ONCE, protected=set(), delete=True)
    record.write_bytes(intact)
    assert [finding.damaged for finding in store.verify()] == [()]


@pytest.mark.slow
def test_a_publication_beside_removal_after_removal_is_always_whole(
    shared_url: str, tmp_path: Path
) -> None:
    """Another process publishes one of 100 trees again and again.

    Only the newest record stays, so that what it publishes once more may be about to be removed.
    """
    (tmp_path / "same").write_text("in all of them")
    command = [sys.executable, "-c", PUBLISH_AT_RANDOM, shared_url, str(tmp_path), "4"]
    policy = RetentionPolicy(grace_hours=1 / 3600, rules=(Rule(artifacts="*", publications=1),))
    store = ArtifactStore(shared_url, tmp_path / "other_cache")
    removed = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while process.poll() is None:
            removed += store.collect_garbage(policy, protected=set(), delete=True).blobs
            newest = store.latest("a")
            assert newest is None or newest.is_complete() or store.latest("a") != newest
    assert process.returncode == 0
    assert removed > 0
    assert [finding.damaged for finding in store.verify()] == [()] * len(store.history("a"))


@pytest.mark.slow
def test_a_commit_waits_for_a_sweep_and_a_sweep_gives_way_to_a_commit(shared_url: str) -> None:
    raw = ObjectStore(shared_url)
    with sweeping(raw):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, shared_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        while not [key for key in raw.keys("locks") if "commit-" in key]:
            assert process.poll() is None
        assert process.poll() is None
    assert process.stdout.readline() == "held\n"
    lease = Lease(raw, "sweep")
    assert [key.partition("-")[0] for key in lease.others("commit", "sweep")] == ["locks/commit"]
    lease.release()
    process.communicate("go on\n")
    with sweeping(raw) as lease:
        assert lease.others("commit") == []


@pytest.mark.slow
def test_a_lock_of_a_process_that_died_runs_out(tmp_path: Path) -> None:
    raw = ObjectStore(str(tmp_path / "store"))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, raw.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    [left] = (tmp_path / "store" / "locks").iterdir()
    own = Lease(raw, "sweep")
    assert own.others("commit") == [f"locks/{left.name}"]
    os.utime(left, (time.time() - 1801, time.time() - 1801))
    assert own.others("commit") == []
    own.release()
    with committing(raw):
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules:\n- artifacts: '*'\n  publication: 2", "rules.0.publication: Extra inputs"),
        ("rules:\n- artifacts: '*'\n  publications: 0", "rules.0.publications: .*greater than 0"),
        ("rules:\n- artifacts: '*'\n  folders: {../x: 1}", "not a relative path"),
        ("rules: [", "not YAML"),
        ("grace_hours: -1", "grace_hours"),
    ],
)
def test_a_wrong_policy_is_refused_with_file_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=rf"policy.yaml: .*{message}"):
        RetentionPolicy.read(tmp_path / "policy.yaml")
    with pytest.raises(ConfigurationError, match="nowhere"):
        RetentionPolicy.read(tmp_path / "nowhere")


def test_dead_locks_are_deleted_and_one_from_the_future_blocks_nobody(tmp_path: Path) -> None:
    """Of killed processes, and of a machine whose clock was a month ahead."""
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    (tmp_path / "file").write_text("content")
    store.publish("a", {"file": tmp_path / "file"}, kind="k")
    locks = tmp_path / "store" / "locks"
    dead, ahead, living = (locks / f"{kind}-left" for kind in ("commit", "sweep", "commit-2"))
    for lock, seconds in ((dead, -4 * 3600), (ahead, 30 * 86400), (living, -60)):
        lock.write_bytes(b"")
        os.utime(lock, (time.time() + seconds, time.time() + seconds))
    store.publish("b", {"file": tmp_path / "file"}, kind="k")
    living.unlink()
    (tmp_path / "file").write_text("of no publication")
    store.upload({"file": tmp_path / "file"})
    assert store.collect_garbage(AT_ONCE, protected=set(), delete=True).blobs == 1
    assert not dead.exists()
    assert not ahead.exists()


class Behind(ObjectStore):
    """A store whose listings are from a moment ago: they have keys that were removed since."""

    removed: tuple[str, ...] = ()

    def objects(
        self, prefix: str, *, recursive: bool = True, after: str | None = None
    ) -> list[ObjectInfo]:
        found = super().objects(prefix, recursive=recursive, after=after)
        gone = [key for key in self.removed if key.startswith(f"{prefix}/")]
        return sorted([*found, *(ObjectInfo(key, 0, datetime.now(UTC), "gone") for key in gone)])


def test_what_another_collection_or_a_commit_removes_meanwhile_is_no_error(
    any_url: str, any_store: ArtifactStore, tmp_path: Path
) -> None:
    old, new = (_checkpoint(any_store, tmp_path, 1, text) for text in ("old", "new"))
    raw = Behind(any_url)
    announce(raw, "attempt", 0, old.manifest.files, 0)
    raw.removed = ("pending/attempt/0.json", old.manifest.key)
    raw.delete(raw.removed)
    found = collect_garbage(
        raw,
        Records(raw, tmp_path / "memory"),
        AT_ONCE,
        protected=set(),
        is_known_run=lambda run_id: True,
        delete=True,
    )
    assert (found.records, found.blobs) == ([], 2)
    assert new.is_complete()


def test_two_collections_with_other_policies_keep_a_note_of_both(
    any_url: str, any_store: ArtifactStore, tmp_path: Path
) -> None:
    """The second begins after the first has read all notes, and ends before it writes any."""
    artifacts = [_checkpoint(any_store, tmp_path, epoch) for epoch in (1, 2)]
    superseded = _checkpoint(any_store, tmp_path, 3, "old")
    _checkpoint(any_store, tmp_path, 3)

    def policy(folder: str) -> RetentionPolicy:
        rule = Rule(artifacts="*", publications=1, folders={folder: 0})
        return RetentionPolicy(grace_hours=0, rules=(rule,))

    def meanwhile(_: str) -> bool:
        any_store.collect_garbage(policy("weights"), protected=set(), delete=True)
        return True

    any_store.publish("run", {"file": Path(__file__)}, kind="k", made_by={"run_id": "a"})
    any_store.collect_garbage(policy("state"), protected=set(), is_known_run=meanwhile, delete=True)
    raw = ObjectStore(any_url)
    for artifact in artifacts:
        note = read_dropped(raw, artifact.manifest.key)
        assert note
        assert set(note.folders) == {"weights", "state"}
    assert not [key for key in raw.keys("manifests") if superseded.manifest.key[:-5] in key]
    assert all(not finding.damaged for finding in any_store.verify())


def test_what_is_removed_during_a_verification_is_not_damage(
    any_store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "RECORDS_AT_ONCE", 1)  # else all are checked by then
    for text in ("1", "2", "3"):
        _checkpoint(any_store, tmp_path, 1, text)
    findings = any_store.verify()
    first = next(findings)
    rule = Rule(artifacts="*", publications=1)
    any_store.collect_garbage(
        RetentionPolicy(grace_hours=0, rules=(rule,)), protected=set(), delete=True
    )
    assert [finding.damaged for finding in (first, *findings)] == [(), ()]
