"""A store that somebody else may write to, and `dolly train` on it, as a user would run it."""

from pathlib import Path

from dolly_assets.storage import ArtifactStore
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.home import Home
from dolly_assets_tests.training.test_untrusted_state import Marker, save


def test_a_changed_record_cannot_make_training_run_code(trained_copy: Home, tmp_path: Path) -> None:
    """`state/latest` of epoch 2 leads to a pickle elsewhere on this machine; 3 resumes from it."""
    marker, outside = tmp_path / "marker", tmp_path / "outside"
    outside.mkdir()
    save({"module": Marker(marker)}, outside / "mp_rank_00_model_states.pt")
    latest = tmp_path / "latest"
    latest.write_text(str(outside))
    url = str(trained_copy.path / "store")
    store, objects = ArtifactStore(url, tmp_path / "cache"), ObjectStore(url)
    [planted] = store.publish("planted", {"latest": latest}, kind="files").manifest.files
    epoch = store.latest("tiny/model_checkpoint/animals/02")
    assert epoch
    changed = {"state/latest": planted.model_copy(update={"path": "state/latest"})}
    files = tuple(changed.get(file.path, file) for file in epoch.manifest.files)
    forged = epoch.manifest.model_copy(update={"files": files})
    objects.write(forged.key, forged.to_json())
    (Path(url) / epoch.manifest.key).unlink()
    arguments = ("train", "--model", "tiny", "--dataset", "animals", "--epochs", "1-3")
    output = trained_copy.dolly(*arguments, code=2)
    assert not marker.exists()
    assert "which is not a folder of its state: refused" in output
