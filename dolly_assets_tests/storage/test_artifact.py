"""Publishing, finding and reading artifacts, in every kind of store."""

from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage import ArtifactStore, artifact_name
from dolly_assets.storage.manifest import FileEntry
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.storage.files import MODEL, blob_of, contents, flip_a_bit


def test_what_is_published_is_what_is_fetched(any_store: ArtifactStore, tree: Path) -> None:
    published = any_store.publish(
        "demo/model_checkpoint/demo/01",
        tree,
        kind="model_checkpoint",
        inputs={"training_plan": "ab" * 32},
        attributes={"loss": 1.25, "steps": 40, "history": [3.0, 2.0]},
        made_by={"run_id": "r1"},
    )
    found = any_store.latest("demo/model_checkpoint/demo/01")
    assert found is not None
    assert found.manifest == published.manifest
    assert found.manifest.attributes == {"loss": 1.25, "steps": 40, "history": [3.0, 2.0]}
    assert found.uri.startswith(any_store.url)
    assert found.size_bytes == sum(len(data) for data in contents(tree).values())
    assert contents(found.fetch()) == contents(tree)


def test_a_mapping_publishes_the_same_artifact_as_its_folder(
    any_store: ArtifactStore, tree: Path
) -> None:
    of_folder = any_store.publish("a", tree, kind="k")
    mapping = {path: tree / path for path in contents(tree)}
    assert any_store.publish("b", mapping, kind="other").digest == of_folder.digest


def test_ranks_upload_their_own_files_and_one_commits_them_all(
    any_store: ArtifactStore, tree: Path
) -> None:
    of_rank_1 = any_store.upload({"state/1": tree / "empty"})
    of_rank_0 = any_store.upload({"weights": tree / "weights" / "model.safetensors"})
    assert any_store.names() == []
    artifact = any_store.commit("a", [*of_rank_1, *of_rank_0], kind="k")
    assert [entry.path for entry in artifact.manifest.files] == ["state/1", "weights"]
    assert (artifact.fetch() / "weights").read_bytes() == MODEL


def test_commit_refuses_a_file_whose_content_is_not_there(any_store: ArtifactStore) -> None:
    never_uploaded = FileEntry(path="weights/model", size_bytes=3, sha256="ab" * 32)
    with pytest.raises(ArtifactError, match=r"not in .*weights/model; upload"):
        any_store.commit("a", [never_uploaded], kind="k")
    assert any_store.latest("a") is None


def test_latest_is_the_newest_and_history_keeps_all(
    any_store: ArtifactStore, tmp_path: Path
) -> None:
    digests = []
    for turn in (1, 2, 1):
        (tmp_path / "file").write_text(str(turn))
        digests.append(any_store.publish("a/b", {"file": tmp_path / "file"}, kind="k").digest)
    newest = any_store.latest("a/b")
    assert newest is not None
    assert newest.digest == digests[2] == digests[0] != digests[1]
    assert [found.digest for found in any_store.history("a/b")] == digests[::-1]
    assert any_store.get("a/b", digests[0]).manifest == newest.manifest
    assert any_store.get("a/b", digests[1]).read_bytes("file") == b"2"


def test_a_clock_that_is_behind_cannot_hide_a_publication(
    store: ArtifactStore, tmp_path: Path
) -> None:
    """The newest record is 12 hours ahead, as a machine with a wrong clock writes it."""
    (tmp_path / "file").write_text("first")
    first = store.publish("a", {"file": tmp_path / "file"}, kind="k")
    ahead = first.manifest.model_copy(
        update={"created_at": first.manifest.created_at + timedelta(hours=12)}
    )
    (tmp_path / "store" / ahead.key).write_bytes(ahead.to_json())
    (tmp_path / "file").write_text("second")
    second = store.publish("a", {"file": tmp_path / "file"}, kind="k")
    newest = store.latest("a")
    assert newest is not None
    assert newest.digest == second.digest
    assert newest.manifest.created_at > ahead.created_at


def test_a_clock_that_is_days_ahead_of_the_stores_is_refused(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would publish would stay the newest of its name for as long."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # pyright: ignore[reportIncompatibleMethodOverride]
            return datetime.now(tz) + timedelta(days=3, hours=1)

    (tmp_path / "file").write_text("content")
    monkeypatch.setattr("dolly_assets.storage.artifact.datetime", Ahead)
    with pytest.raises(ArtifactError, match=r"clock of this machine is 3 days, .* ahead of"):
        store.publish("a", {"file": tmp_path / "file"}, kind="k")
    assert store.latest("a") is None


def test_get_says_which_digests_exist(any_store: ArtifactStore, tree: Path) -> None:
    known = any_store.publish("a", tree, kind="k")
    with pytest.raises(ArtifactError, match=known.digest[:16]):
        any_store.get("a", "0" * 64)
    with pytest.raises(ArtifactError, match="it has none"):
        any_store.get("b", "0" * 64)


def test_names_are_listed_by_whole_segments(any_store: ArtifactStore, tree: Path) -> None:
    for name in ("demo/raw", "demo/raw/alpaca", "demo2/raw"):
        any_store.publish(name, {"file": tree / "empty"}, kind="k")
    assert any_store.names() == ["demo/raw", "demo/raw/alpaca", "demo2/raw"]
    assert any_store.names("demo") == ["demo/raw", "demo/raw/alpaca"]
    assert any_store.names("demo/raw") == ["demo/raw", "demo/raw/alpaca"]
    assert any_store.names("dem") == []
    assert len(any_store.history("demo/raw")) == 1


def test_a_subtree_is_fetched_alone(any_store: ArtifactStore, tree: Path) -> None:
    artifact = any_store.publish("a", tree, kind="k")
    folder = artifact.fetch("state")
    assert contents(folder) == contents(tree / "state")
    assert not (folder.parent / "weights").exists()
    assert contents(artifact.fetch()) == contents(tree)
    with pytest.raises(ArtifactError, match=r"has no 'stat'; it has empty, state/rng"):
        artifact.fetch("stat")
    with pytest.raises(ArtifactError, match=r"has no '\.\./x'"):
        artifact.local_file("../x")


def test_bytes_and_ranges_are_read_with_and_without_a_cached_copy(
    any_store: ArtifactStore, tree: Path
) -> None:
    artifact = any_store.publish("a", tree, kind="k")
    path = "weights/model.safetensors"
    data = (tree / path).read_bytes()
    for fetched in (False, True):
        if fetched:
            artifact.local_file(path)
        assert artifact.read_bytes(path) == data
        assert artifact.read_bytes(path, 1000, 20) == data[1000:1020]
        assert artifact.read_bytes(path, len(data) - 5, 20) == data[-5:]
        assert artifact.read_bytes(path, len(data) + 5, 20) == b""
        assert artifact.read_bytes("empty") == b""
    with pytest.raises(ArtifactError, match="0 or more"):
        artifact.read_bytes(path, -1)


def test_tables_are_read_from_parquet_and_both_arrow_formats(
    any_store: ArtifactStore, tmp_path: Path
) -> None:
    table = pa.table({"tokens": [[1, 2], [3]]})
    folder = tmp_path / "epoch=1"
    folder.mkdir()
    pq.write_table(table, folder / "t.parquet")
    with pa.ipc.new_file(folder / "t.arrow", table.schema) as file:
        file.write_table(table)
    with pa.ipc.new_stream(folder / "t.stream", table.schema) as stream:
        stream.write_table(table)
    (folder / "t.txt").write_text("no table")
    artifact = any_store.publish("a", {f"epoch=1/{p.name}": p for p in folder.iterdir()}, kind="k")
    for name in ("t.parquet", "t.arrow", "t.stream"):
        assert artifact.read_table(f"epoch=1/{name}").equals(table)
    with pytest.raises(ArtifactError, match="neither Parquet nor Arrow"):
        artifact.read_table("epoch=1/t.txt")


def test_a_table_that_would_lead_out_of_its_memory_is_refused(
    store: ArtifactStore, tmp_path: Path
) -> None:
    """Arrow believes where the file says that a row's values begin and end."""
    table = pa.table({"tokens": [[1, 2], [3]]})
    files = {name: tmp_path / name for name in ("t.arrow", "t.parquet", "short.parquet")}
    with pa.ipc.new_file(files["t.arrow"], table.schema) as file:
        file.write_table(table)
    offsets = [number.to_bytes(4, "little") for number in (0, 2, 3)]
    content = files["t.arrow"].read_bytes()
    assert b"".join(offsets) in content
    files["t.arrow"].write_bytes(
        content.replace(b"".join(offsets), b"".join([*offsets[:2], (2**20).to_bytes(4, "little")]))
    )
    pq.write_table(table, files["t.parquet"])
    whole = files["t.parquet"].read_bytes()
    files["t.parquet"].write_bytes(whole[:4] + bytes(40) + whole[44:])
    files["short.parquet"].write_bytes(b"PAR1" + whole[-20:])
    artifact = store.publish("a", files, kind="k")
    for name in files:
        with pytest.raises(ArtifactError, match=f"a: '{name}' is neither"):
            artifact.read_table(name)


def test_a_flipped_bit_in_the_store_is_reported_and_never_returned(
    store: ArtifactStore, tree: Path, tmp_path: Path
) -> None:
    artifact = store.publish("a", tree, kind="k")
    damaged = next(
        entry for entry in artifact.manifest.files if entry.path == "weights/config.json"
    )
    flip_a_bit(blob_of(tmp_path / "store", damaged.sha256))
    for read in (artifact.fetch, lambda: artifact.read_bytes(damaged.path)):
        with pytest.raises(
            ArtifactError, match=rf"'weights/config.json'.*expected sha256 {damaged.sha256}"
        ):
            read()
    assert not list((tmp_path / "cache").rglob("config.json"))
    found = list(store.verify())
    assert [(one.name, one.digest, [d.path for d in one.damaged]) for one in found] == [
        ("a", artifact.digest, ["weights/config.json"])
    ]


@pytest.mark.parametrize("left_bytes", [0, 1, 800_000])
def test_a_truncated_blob_is_reported_with_both_sizes(
    any_store: ArtifactStore, any_url: str, tree: Path, left_bytes: int
) -> None:
    artifact = any_store.publish("a", tree, kind="k")
    big = max(artifact.manifest.files, key=lambda entry: entry.size_bytes)
    last = big.blobs[-1]
    ObjectStore(any_url).write(last.key, MODEL[last.start :][:left_bytes])
    with pytest.raises(
        ArtifactError, match=rf"{big.path}.*\({last.size_bytes} bytes\).*{left_bytes} bytes"
    ):
        artifact.fetch()
    repaired = any_store.publish("a", tree, kind="k")
    assert contents(repaired.fetch()) == contents(tree)


@pytest.mark.parametrize("path", ["weights/model.safetensors", "weights/config.json", "empty"])
def test_bytes_appended_to_a_blob_are_damage_for_every_way_to_read(
    any_store: ArtifactStore, any_url: str, tree: Path, tmp_path: Path, path: str
) -> None:
    """Also for those that would do with the bytes before them: all say the same of an artifact."""
    artifact = any_store.publish("a", tree, kind="k")
    [entry] = [entry for entry in artifact.manifest.files if entry.path == path]
    raw, last = ObjectStore(any_url), entry.blobs[-1]
    raw.write(last.key, raw.read_all(last.key) + b"more")
    expected = rf"{path}.*\({last.size_bytes} bytes\), found {last.size_bytes + 4} bytes"
    for read in (
        artifact.fetch,
        lambda: artifact.read_bytes(path),
        lambda: artifact.copy_to(tmp_path / "copy"),
    ):
        with pytest.raises(ArtifactError, match=expected):
            read()
    assert [[damage.path for damage in one.damaged] for one in any_store.verify()] == [[path]]
    assert not artifact.is_complete()
    any_store.publish("a", tree, kind="k")
    assert contents(artifact.fetch()) == contents(tree)


def test_a_missing_blob_is_reported(store: ArtifactStore, tree: Path, tmp_path: Path) -> None:
    artifact = store.publish("a", tree, kind="k")
    blob_of(tmp_path / "store", artifact.manifest.files[-1].blobs[-1].sha256).unlink()
    with pytest.raises(ArtifactError, match=r"model.safetensors.*found nothing"):
        artifact.fetch()


def test_verify_reads_each_content_once_and_reports_damaged_manifests(
    store: ArtifactStore, tree: Path, tmp_path: Path
) -> None:
    first = store.publish("a", tree, kind="k")
    store.publish("b/c", tree, kind="k")
    changed = store.publish("b/d", tree, kind="k", attributes={"loss": 1.0})
    record = tmp_path / "store" / changed.manifest.key
    record.write_text(record.read_text().replace("1.0", "0.1"))
    for path in (tmp_path / "store" / "blobs").rglob("*"):
        if path.is_file() and path.name != first.manifest.files[0].sha256:
            path.unlink()
    verified = list(store.verify())
    assert [(found.name, found.digest, len(found.damaged)) for found in verified] == [
        ("a", first.digest, 3),
        ("b/c", first.digest, 3),
        ("b/d", None, 1),
    ]
    assert "record_sha256" in verified[2].damaged[0].reason
    assert [found.name for found in store.verify("b")] == ["b/c", "b/d"]
    with pytest.raises(ArtifactError, match="is damaged"):
        store.latest("b/d")


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "a/../b", ".", "a\\b", "a\nb", "a\x7f"])
def test_names_that_could_climb_are_refused(
    store: ArtifactStore, tree: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ArtifactError, match="not an artifact name"):
        store.publish(name, tree, kind="k")
    with pytest.raises(ArtifactError, match="cannot publish"):
        store.publish("good", {name: tree / "empty"}, kind="k")
    with pytest.raises(ArtifactError, match="not an artifact name"):
        store.latest(name)


def test_only_plain_files_are_published(store: ArtifactStore, tree: Path, tmp_path: Path) -> None:
    (tree / "link_to_file").symlink_to(tree / "weights" / "config.json")
    artifact = store.publish("a", tree, kind="k")
    assert artifact.read_bytes("link_to_file") == b'{"vocab_size": 3}'
    (tree / "link_to_folder").symlink_to(tree / "weights")
    with pytest.raises(ArtifactError, match="link_to_folder"):
        store.publish("a", tree, kind="k")
    with pytest.raises(ArtifactError, match="no such folder"):
        store.publish("a", tmp_path / "nowhere", kind="k")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(ArtifactError, match="holds no file"):
        store.publish("a", tmp_path / "hollow", kind="k")


def test_a_file_and_a_folder_of_one_name_are_refused(store: ArtifactStore, tree: Path) -> None:
    with pytest.raises(ArtifactError, match="both a file and the folder"):
        store.publish("a", {"x": tree / "empty", "x/y": tree / "empty"}, kind="k")


def test_attributes_without_a_json_form_are_refused_with_a_reason(
    store: ArtifactStore, tree: Path
) -> None:
    with pytest.raises(ArtifactError, match="NaN"):
        store.publish("a", tree, kind="k", attributes={"loss": float("nan")})
    with pytest.raises(ArtifactError, match="attributes"):
        store.publish("a", tree, kind="k", attributes={"path": tree})  # pyright: ignore[reportArgumentType]
    assert store.latest("a") is None


def test_artifact_names_come_from_asset_and_partition_keys() -> None:
    assert artifact_name(["demo", "raw_dataset"]) == "demo/raw_dataset"
    assert artifact_name(["demo", "model_checkpoint"], "demo|01") == "demo/model_checkpoint/demo/01"
    assert (
        artifact_name(["demo", "model_checkpoint"], "demo", "01") == "demo/model_checkpoint/demo/01"
    )
    for key in ("..", "", "a/b"):
        with pytest.raises(ArtifactError):
            artifact_name(["raw_dataset"], key)
