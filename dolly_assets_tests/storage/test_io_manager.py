"""The IO manager in real Dagster runs (in this process, with an ephemeral instance)."""

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage import Artifact, ArtifactStore
from dolly_assets.storage.asset_metadata import artifact_metadata
from dolly_assets.storage.io_manager import ArtifactIOManager
from dolly_assets_tests.storage.files import MODEL

EPOCHS = dg.MultiPartitionsDefinition(
    {
        "epoch": dg.StaticPartitionsDefinition(["01", "02"]),
        "dataset": dg.StaticPartitionsDefinition(["alpaca"]),
    }
)
seen: list[Any] = []


@dg.asset(key_prefix="demo", partitions_def=EPOCHS)
def checkpoint() -> Path:
    return Path("tree").absolute()


@dg.asset(key_prefix="demo", partitions_def=EPOCHS)
def scores(checkpoint: Artifact) -> dict:
    return {"bytes": len(checkpoint.read_bytes("weights/model.safetensors"))}


@dg.asset(key_prefix="demo")
def comparison(scores: dict[str, Artifact]) -> pa.Table:
    return pa.table({"epoch": sorted(scores)})


@dg.asset(key_prefix="demo")
def champion(comparison: pa.Table) -> None:
    seen.append(comparison)


@pytest.fixture
def resources(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return {
        "io_manager": ArtifactIOManager(
            url=str(tmp_path / "store"), cache_dir=str(tmp_path / "cache")
        )
    }


def _run(
    resources: dict[str, Any],
    instance: dg.DagsterInstance,
    asset: Any,
    partition_key: str | None = None,
) -> Any:
    upstream = [one for one in (checkpoint, scores, comparison, champion) if one is not asset]
    return dg.materialize(
        [asset, *upstream],
        selection=[asset],
        resources=resources,
        instance=instance,
        partition_key=partition_key,
    )


def test_assets_pass_artifacts_values_and_tables(
    resources: dict[str, Any], tmp_path: Path, tree: Path
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for epoch in ("01", "02"):
            _run(resources, instance, checkpoint, f"alpaca|{epoch}")
            _run(resources, instance, scores, f"alpaca|{epoch}")
        _run(resources, instance, comparison)
        _run(resources, instance, champion)
    assert seen.pop().to_pydict() == {"epoch": ["alpaca|01", "alpaca|02"]}
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    assert store.names() == [
        "demo/checkpoint/alpaca/01",
        "demo/checkpoint/alpaca/02",
        "demo/comparison",
        "demo/scores/alpaca/01",
        "demo/scores/alpaca/02",
    ]
    score = store.latest("demo/scores/alpaca/01")
    assert score is not None
    assert score.read_bytes("value.json") == f'{{"bytes": {len(MODEL)}}}'.encode()
    assert score.manifest.kind == "scores"
    assert score.manifest.made_by["run_id"]


@pytest.mark.slow
def test_the_manifest_names_what_the_value_was_made_from(
    resources: dict[str, Any], tmp_path: Path, tree: Path
) -> None:
    """Of what a step took, and of what it only depends on."""

    @dg.asset(key_prefix="demo", deps=[comparison])
    def report(scores: dict[str, Artifact]) -> int:
        return len(scores)

    with dg.DagsterInstance.ephemeral() as instance:
        for epoch in ("01", "02"):
            _run(resources, instance, checkpoint, f"alpaca|{epoch}")
            _run(resources, instance, scores, f"alpaca|{epoch}")
        _run(resources, instance, comparison)
        _run(resources, instance, report)
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    newest = {name: found for name in store.names() if (found := store.latest(name))}
    digests = {name: found.digest for name, found in newest.items()}
    both = {name: digests[name] for name in ("demo/scores/alpaca/01", "demo/scores/alpaca/02")}
    assert newest["demo/checkpoint/alpaca/01"].manifest.inputs == {}
    assert newest["demo/scores/alpaca/02"].manifest.inputs == {
        "demo/checkpoint/alpaca/02": digests["demo/checkpoint/alpaca/02"]
    }
    assert newest["demo/comparison"].manifest.inputs == both
    assert newest["demo/report"].manifest.inputs == {
        **both,
        "demo/comparison": digests["demo/comparison"],
    }


def test_the_materialization_carries_the_digest_as_data_version(
    resources: dict[str, Any], tmp_path: Path
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = _run(resources, instance, checkpoint, "alpaca|01")
        [event] = result.get_asset_materialization_events()
        artifact = ArtifactStore(str(tmp_path / "store"), tmp_path).latest(
            "demo/checkpoint/alpaca/01"
        )
        assert artifact is not None
        materialization = event.materialization
        assert materialization.tags["dagster/data_version"] == artifact.digest
        metadata = {key: value.value for key, value in materialization.metadata.items()}
        assert metadata["digest"] == artifact.digest
        assert metadata["dagster/uri"] == artifact.uri
        assert (metadata["files"], metadata["size_bytes"]) == (4, artifact.size_bytes)
        assert metadata["seconds"] > 0
        assert metadata["megabytes_per_second"] > 0


def test_an_artifact_that_a_worker_published_is_described_and_not_copied(
    resources: dict[str, Any], tmp_path: Path, tree: Path
) -> None:
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    published = store.publish("demo/worker", tree, kind="k", attributes={"loss": 1.5})

    @dg.asset(key_prefix="demo")
    def worker() -> Artifact:
        return published

    with dg.DagsterInstance.ephemeral() as instance:
        [event] = dg.materialize(
            [worker], resources=resources, instance=instance
        ).get_asset_materialization_events()
    assert event.materialization.tags
    assert event.materialization.tags["dagster/data_version"] == published.digest
    assert event.materialization.metadata["loss"].value == 1.5
    assert len(store.history("demo/worker")) == 1


def test_a_picture_beside_a_value_is_shown_and_does_not_change_the_data_version(
    store: ArtifactStore, resources: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    folder.mkdir()

    @dg.asset(key_prefix="demo")
    def chart() -> Path:
        return folder

    def materialized() -> Artifact:
        assert dg.materialize([chart], resources=resources).success
        newest = store.latest("demo/chart")
        assert newest
        return newest

    def drawn(colour: str) -> str:
        (folder / "picture.png").write_text(colour)
        return materialized().digest

    assert drawn("red") != drawn("blue")  # nothing else is there
    (folder / "value.json").write_text("1")
    assert drawn("red") == drawn("blue")
    assert materialized().read_bytes("picture.png") == b"blue"


def test_a_missing_artifact_names_the_asset_and_partition_to_materialize(
    resources: dict[str, Any],
) -> None:
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(
            ArtifactError,
            match=r"asset demo/checkpoint, partition alpaca\|01, yet: materialize it first",
        ),
    ):
        _run(resources, instance, scores, "alpaca|01")


def test_a_value_that_has_no_stored_form_is_refused(resources: dict[str, Any]) -> None:
    @dg.asset
    def odd() -> Any:
        return object()

    with pytest.raises(ArtifactError, match=r"odd: cannot store a object .* JSON value"):
        dg.materialize([odd], resources=resources)


def test_markdown_of_a_manifest_loads_no_image(store: ArtifactStore, tree: Path) -> None:
    image = "![t](https://evil.example/t.png)"
    artifact = store.publish(
        "demo/old", tree, kind="old", attributes={"a_markdown": f"> {image}", "b_markdown": "**b**"}
    )
    shown = artifact_metadata(artifact)
    assert (shown["a"].value, shown["b"].value) == (f"```\n> {image}\n```", "**b**")
