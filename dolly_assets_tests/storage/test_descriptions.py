"""Pictures, previews and reports lie beside the content of an artifact and do not name it; they are
verified, kept and collected as the other files are.
"""

import logging
from pathlib import Path

import pytest

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage import Artifact, ArtifactStore, FileEntry, Manifest, RetentionPolicy
from dolly_assets.storage.manifest import seal, unseal
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.storage.files import blob_of, contents, flip_a_bit

DESCRIPTIONS = ("picture.png", "preview.md")


@pytest.fixture
def content(tmp_path: Path) -> Path:
    folder = tmp_path / "content"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "model").write_bytes(b"weights")
    (folder / "train.arrow").write_bytes(b"tokens")
    return folder


def published(store: ArtifactStore, content: Path, picture: str) -> Artifact:
    (content / "picture.png").write_text(picture)
    return store.publish("a", content, kind="k", descriptions=DESCRIPTIONS)


def test_the_digest_is_that_of_the_content_whatever_the_picture_shows(
    any_store: ArtifactStore, content: Path
) -> None:
    plain = any_store.publish("plain", content, kind="k")
    red, blue = (published(any_store, content, picture) for picture in ("red", "blue"))
    assert red.digest == blue.digest == plain.digest
    turned = {
        path.relative_to(content).as_posix(): path
        for path in sorted(content.rglob("*"), reverse=True)
        if path.is_file()
    }
    again = any_store.publish("b", turned, kind="k", descriptions=DESCRIPTIONS)
    assert again.digest == plain.digest
    (content / "train.arrow").write_bytes(b"other tokens")
    assert published(any_store, content, "blue").digest != plain.digest


def test_a_file_that_is_not_said_to_describe_counts(store: ArtifactStore, content: Path) -> None:
    (content / "picture.png").write_text("red")
    red = store.publish("a", content, kind="k")
    (content / "picture.png").write_text("blue")
    assert store.publish("a", content, kind="k").digest != red.digest


def test_the_newest_record_of_a_digest_wins_and_each_reads_its_own_picture(
    any_store: ArtifactStore, content: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also from a cache that holds the other one."""
    caplog.set_level(logging.WARNING)
    red, blue = (published(any_store, content, picture) for picture in ("red", "blue"))
    for newest in (any_store.latest("a"), any_store.get("a", red.digest)):
        assert newest
        assert newest.read_bytes("picture.png") == b"blue"
    assert [each.read_bytes("picture.png") for each in any_store.history("a")] == [b"blue", b"red"]
    trees = [each.fetch() for each in (red, blue)]
    for picture, tree in zip((b"red", b"blue"), trees, strict=True):
        assert contents(tree)["picture.png"] == picture
    assert trees[0] / "train.arrow" != trees[1] / "train.arrow"
    assert (trees[0] / "train.arrow").samefile(trees[1] / "train.arrow")
    red.copy_to(tmp_path / "copy")
    assert (tmp_path / "copy" / "picture.png").read_bytes() == b"red"
    assert not caplog.records


def test_a_damaged_picture_is_never_returned_and_verification_reports_it(
    store: ArtifactStore, content: Path, tmp_path: Path
) -> None:
    red, blue = (published(store, content, picture) for picture in ("red", "blue"))
    [picture] = [entry for entry in red.manifest.files if entry.is_description]
    flip_a_bit(blob_of(tmp_path / "store", picture.sha256))
    for read in (
        lambda: red.read_bytes("picture.png"),
        red.fetch,
        lambda: red.fetch("picture.png"),
    ):
        with pytest.raises(ArtifactError, match=r"picture\.png.*damaged"):
            read()
    assert blue.read_bytes("picture.png") == b"blue"
    assert [[each.path for each in found.damaged] for found in store.verify()] == [
        ["picture.png"],
        [],
    ]


def test_garbage_collection_keeps_the_picture_of_every_record(
    store: ArtifactStore, content: Path
) -> None:
    kept = [published(store, content, picture) for picture in ("red", "blue")]
    policy = RetentionPolicy(grace_hours=0)
    found = store.collect_garbage(policy, protected=set(), delete=True)
    assert (found.records, found.blobs) == ([], 0)
    assert [each.read_bytes("picture.png") for each in kept] == [b"red", b"blue"]


def test_ranks_publish_a_description(store: ArtifactStore, content: Path, tmp_path: Path) -> None:
    (content / "picture.png").write_text("red")
    (tmp_path / "other").write_bytes(b"of rank 1")
    store.upload_rank({"state/1": tmp_path / "other"}, attempt="x", rank=1)
    artifact = store.publish_rank(
        "a",
        content,
        attempt="x",
        rank=0,
        ranks=2,
        timeout_seconds=0,
        descriptions=DESCRIPTIONS,
        kind="k",
    )
    assert artifact
    assert described(artifact.manifest) == ["picture.png"]


def test_files_that_are_committed_again_stay_what_they_were(
    store: ArtifactStore, content: Path
) -> None:
    red = published(store, content, "red")
    assert store.commit("b", red.manifest.files, kind="k").digest == red.digest


def described(manifest: Manifest) -> list[str]:
    return [entry.path for entry in manifest.files if entry.is_description]


def test_only_records_with_descriptions_have_the_version_that_earlier_programs_refuse(
    store: ArtifactStore, content: Path
) -> None:
    """They would count the picture, and find another digest."""
    assert store.publish("plain", content, kind="k").manifest.schema_version == 1
    assert published(store, content, "red").manifest.schema_version == 2


def test_a_record_of_an_earlier_version_counts_its_picture(
    store: ArtifactStore, content: Path
) -> None:
    """Its digest, and so what was named by it, stays what it was."""
    (content / "picture.png").write_text("red")
    old = store.publish("a", content, kind="k")
    assert b"is_description" not in old.manifest.to_json()
    assert Manifest.from_json(old.manifest.to_json(), old.manifest.key).digest == old.digest
    assert published(store, content, "red").digest != old.digest


@pytest.mark.parametrize("path", ["weights/modeling.py", "state/latest"])
def test_nothing_is_added_to_a_folder_under_a_published_digest(
    store: ArtifactStore, content: Path, tmp_path: Path, path: str
) -> None:
    """Whoever can write into the store can rewrite a record, but what programs load stays bound."""
    artifact = published(store, content, "red")
    objects = ObjectStore(str(tmp_path / "store"))
    record = unseal(objects.read_all(artifact.manifest.key))
    forged = FileEntry(path=path, size_bytes=7, sha256=record["files"][-1]["sha256"])
    entry = forged.model_dump(mode="json") | {"is_description": True}
    record["files"] = sorted([*record["files"], entry], key=lambda file: file["path"])
    objects.write(artifact.manifest.key, seal(record))
    with pytest.raises(ArtifactError, match=f"'{path}' is a description, but not at the top"):
        store.get("a", artifact.digest)


def test_content_cannot_be_turned_into_a_description(
    store: ArtifactStore, content: Path, tmp_path: Path
) -> None:
    artifact = published(store, content, "red")
    objects = ObjectStore(str(tmp_path / "store"))
    record = unseal(objects.read_all(artifact.manifest.key))
    for entry in record["files"]:
        if entry["path"] == "train.arrow":
            entry["is_description"] = True
    objects.write(artifact.manifest.key, seal(record))
    with pytest.raises(ArtifactError, match="is damaged: it describes"):
        store.get("a", artifact.digest)


def test_an_artifact_of_nothing_but_descriptions_is_refused(
    store: ArtifactStore, tmp_path: Path
) -> None:
    (tmp_path / "picture.png").write_text("red")
    tree = {"picture.png": tmp_path / "picture.png"}
    with pytest.raises(ArtifactError, match="every file is a description"):
        store.publish("a", tree, kind="k", descriptions=DESCRIPTIONS)
    assert store.latest("a") is None
