"""An artifact's digest binds every byte: whoever can write into the store cannot put other content
under a digest that was published, whatever the manifest says about chunks and sizes.

The records are forged as somebody with access to the bucket would: with a right record hash.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage import Artifact, ArtifactStore
from dolly_assets.storage.manifest import Blob, seal, unseal
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.storage.files import MODEL, contents

BIG = "weights/model.safetensors"


def forge(url: str, artifact: Artifact, change: Callable[[dict[str, Any]], None]) -> None:
    """Replace the record by one in which the entry of the big file is changed."""
    objects = ObjectStore(url)
    record = unseal(objects.read_all(artifact.manifest.key))
    [entry] = [file for file in record["files"] if file["path"] == BIG]
    change(entry)
    objects.write(artifact.manifest.key, seal(record))


def put_blob(url: str, content: bytes) -> str:
    """Store content under its own hash, as the chunk of a file would be."""
    sha256 = hashlib.sha256(content).hexdigest()
    ObjectStore(url).write(Blob(sha256, 0, len(content)).key, content)
    return sha256


@pytest.fixture
def published(shared_url: str, tree: Path, tmp_path: Path) -> Artifact:
    return ArtifactStore(shared_url, tmp_path / "publishers").publish("a", tree, kind="k")


@pytest.fixture
def swapped(shared_url: str, published: Artifact) -> Artifact:
    """The artifact after one chunk of its big file was swapped under the same digest."""

    def swap(entry: dict[str, Any]) -> None:
        entry["chunks"][0] = put_blob(shared_url, os.urandom(entry["chunk_bytes"]))

    forge(shared_url, published, swap)
    return published


def reader(url: str, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(url, tmp_path / "readers")


def test_a_foreign_chunk_is_damage_for_every_way_to_read(
    shared_url: str, swapped: Artifact, tmp_path: Path
) -> None:
    artifact = reader(shared_url, tmp_path).get("a", swapped.digest)
    assert artifact.digest == swapped.digest
    for read in (
        artifact.fetch,
        lambda: artifact.copy_to(tmp_path / "copy"),
        lambda: artifact.read_bytes(BIG),
        lambda: artifact.read_bytes(BIG, 9_000_000, 10),
    ):
        with pytest.raises(ArtifactError, match=rf"{BIG}.*damaged"):
            read()
    assert not (tmp_path / "copy").exists()


def test_verification_reports_a_foreign_chunk(
    shared_url: str, swapped: Artifact, tmp_path: Path
) -> None:
    [finding] = reader(shared_url, tmp_path).verify()
    assert [damage.path for damage in finding.damaged] == [BIG]


def test_a_swapped_artifact_does_not_reach_another_through_the_cache(
    shared_url: str, swapped: Artifact, tree: Path, tmp_path: Path
) -> None:
    """Both name the same content, so they share one file of the cache."""
    store = reader(shared_url, tmp_path)
    ArtifactStore(shared_url, tmp_path / "publishers").publish("b", tree, kind="k")
    with pytest.raises(ArtifactError, match="damaged"):
        store.get("a", swapped.digest).fetch()
    intact = store.latest("b")
    assert intact
    assert (intact.fetch() / BIG).read_bytes() == MODEL


def test_chunks_in_another_order_are_damage(
    shared_url: str, published: Artifact, tree: Path, tmp_path: Path
) -> None:
    half = len(MODEL) // 2
    (tree / BIG).write_bytes(MODEL[half:] + MODEL[:half])
    ArtifactStore(shared_url, tmp_path / "publishers").publish("other", tree, kind="k")

    def cut_in_two(entry: dict[str, Any]) -> None:
        entry["chunk_bytes"] = half
        parts = [MODEL[half : 2 * half], MODEL[:half], MODEL[2 * half :]]
        entry["chunks"] = [put_blob(shared_url, part) for part in parts if part]

    forge(shared_url, published, cut_in_two)
    with pytest.raises(ArtifactError, match="damaged"):
        reader(shared_url, tmp_path).get("a", published.digest).fetch()


def test_the_same_content_in_other_chunks_is_read(
    shared_url: str, published: Artifact, tree: Path, tmp_path: Path
) -> None:
    """The digest does not depend on how a file is cut, so this record could have been published."""

    def cut_finely(entry: dict[str, Any]) -> None:
        entry["chunk_bytes"] = 700_000
        starts = range(0, len(MODEL), 700_000)
        entry["chunks"] = [put_blob(shared_url, MODEL[start : start + 700_000]) for start in starts]

    forge(shared_url, published, cut_finely)
    store = reader(shared_url, tmp_path)
    assert contents(store.get("a", published.digest).fetch()) == contents(tree)
    assert [finding.damaged for finding in store.verify()] == [()]


def test_a_big_file_in_one_blob_is_fetched(
    shared_url: str, published: Artifact, tree: Path, tmp_path: Path
) -> None:
    """As another program may publish it: more than this one has room for at once."""
    content = os.urandom(2**20) * 100
    (tree / BIG).write_bytes(content)
    artifact = ArtifactStore(shared_url, tmp_path / "publishers").publish("big", tree, kind="k")
    put_blob(shared_url, content)

    def join(entry: dict[str, Any]) -> None:
        del entry["chunks"], entry["chunk_bytes"]

    forge(shared_url, artifact, join)
    store = reader(shared_url, tmp_path)
    assert contents(store.get("big", artifact.digest).fetch()) == contents(tree)


@pytest.mark.parametrize(
    "time", ["20990101T000000.000000Z", "99991231T235959.999999Z", "99999999T999999.999999Z"]
)
def test_a_record_with_an_impossible_or_far_time_does_not_lock_its_name(
    shared_url: str, published: Artifact, tree: Path, tmp_path: Path, time: str
) -> None:
    objects = ObjectStore(shared_url)
    key = published.manifest.key
    folder, _, name = key.rpartition("/")
    objects.write(f"{folder}/{time}-{name.partition('-')[2]}", objects.read_all(key))
    store = reader(shared_url, tmp_path)
    assert [artifact.digest for artifact in store.history("a")] == [published.digest]
    (tree / "more").write_text("more")
    again = store.publish("a", tree, kind="k")
    newest = store.latest("a")
    assert newest is not None
    assert newest.digest == again.digest
    assert [finding.damaged for finding in store.verify()] == [(), ()]


def test_a_record_that_is_nested_too_deeply_is_damaged(
    shared_url: str, published: Artifact, tmp_path: Path
) -> None:
    ObjectStore(shared_url).write(published.manifest.key, b"[" * 100_000)
    store = reader(shared_url, tmp_path)
    with pytest.raises(ArtifactError, match="is damaged: it is nested too deeply"):
        store.latest("a")
    [finding] = store.verify()
    assert finding.damaged


@pytest.mark.parametrize("size_bytes", [2**50, 2**64 - 1, 2**80])
def test_a_size_that_the_content_does_not_have_is_damage(
    shared_url: str, published: Artifact, tmp_path: Path, size_bytes: int
) -> None:
    """Also where the content is in the cache under its hash."""
    store = reader(shared_url, tmp_path)
    store.get("a", published.digest).fetch()
    objects = ObjectStore(shared_url)
    changed = {"size_bytes": size_bytes}
    entries = tuple(
        file.model_copy(update=changed if file.path.endswith("config.json") else {})
        for file in published.manifest.files
    )
    forged = published.manifest.model_copy(update={"files": entries})
    objects.write(forged.key, forged.to_json())
    with pytest.raises(ArtifactError, match="damaged"):
        store.get("a", forged.digest).fetch()
