"""`dolly artifacts` and `dolly gc` as a user runs them, on a store in a folder."""

import random
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from dolly_assets.cli.main import main
from dolly_assets.storage import Artifact, ArtifactStore
from dolly_assets_tests.storage.files import contents, flip_a_bit

POLICY = "grace_hours: 0\nrules:\n- artifacts: '*'\n  publications: 1\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOLLY_HOME", str(tmp_path / "home"))
    for name in ("DOLLY_STORE", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "weights").mkdir(parents=True)
    (tmp_path / "tree" / "weights" / "model").write_bytes(random.Random(0).randbytes(20_000_000))
    (tmp_path / "tree" / "note").write_text("hello")
    return tmp_path / "tree"


def _dolly(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    if code == 2:
        assert [line.startswith("dolly: ") for line in result.stderr.splitlines()][-1:] == [True]
        assert result.stderr.count("dolly: ") == 1
    return result


def _publish(home: Path, folder: Path, text: str, **made_by: str) -> Artifact:
    (folder / "file").write_text(text)
    store = ArtifactStore(str(home / "store"), home / "cache")
    return store.publish("a", {"f": folder / "file"}, kind="k", made_by=made_by)


def test_what_is_pushed_is_listed_shown_and_fetched(home: Path, tree: Path, tmp_path: Path) -> None:
    pushed = _dolly("artifacts", "push", "mine/model", tree, "--kind", "model")
    assert "published 20 MB of 20 MB (100 %)" in pushed.stderr
    digest = pushed.stdout.split()[1]
    assert pushed.stdout.startswith(f"{(home / 'store').as_uri()}/manifests/mine/model/")
    [row] = _dolly("artifacts", "list").stdout.splitlines()
    assert row.split()[:2] == ["mine/model", digest[:12]]
    shown = _dolly("artifacts", "show", "mine/model").stdout
    assert "mine/model  (model)" in shown
    assert "20 MB  weights/model" in shown
    fetched = _dolly("artifacts", "fetch", "mine/model", tmp_path / "out")
    assert "fetched 20 MB of 20 MB (100 %)" in fetched.stderr
    assert contents(tmp_path / "out") == contents(tree)
    _dolly("artifacts", "fetch", "mine/model", tmp_path / "part", "--only", "weights/")
    assert [path.name for path in (tmp_path / "part").iterdir()] == ["model"]
    _dolly("artifacts", "fetch", "mine/model", tmp_path / "one", "--only", "weights/model")
    assert contents(tmp_path / "one") == contents(tmp_path / "part")


def test_an_older_publication_is_found_by_how_its_digest_begins(home: Path, tmp_path: Path) -> None:
    first, second = (_publish(home, tmp_path, text) for text in ("1", "2"))
    assert f"other      {first.digest}" in _dolly("artifacts", "show", "a").stdout
    _dolly("artifacts", "fetch", "a", tmp_path / "out", "--digest", first.digest[:8])
    assert (tmp_path / "out" / "f").read_text() == "1"
    assert second.digest in _dolly("artifacts", "show", "a").stdout


def test_mistakes_end_with_one_line_and_code_2(home: Path, tree: Path, tmp_path: Path) -> None:
    assert "see: dolly artifacts list" in _dolly("artifacts", "show", "nothing", code=2).stderr
    assert "no such folder" in _dolly("artifacts", "push", "a", tmp_path / "nowhere", code=2).stderr
    _dolly("artifacts", "push", "a", tree)
    assert "no digest ffff" in _dolly("artifacts", "show", "a", "--digest", "ffff", code=2).stderr
    assert (
        "has no 'x'"
        in _dolly("artifacts", "fetch", "a", tmp_path / "out", "--only", "x", code=2).stderr
    )
    assert "new or empty" in _dolly("artifacts", "fetch", "a", tree, code=2).stderr
    assert "not an artifact name" in _dolly("artifacts", "list", "../x", code=2).stderr


def test_a_damaged_artifact_leaves_no_folder(home: Path, tree: Path, tmp_path: Path) -> None:
    _dolly("artifacts", "push", "a", tree)
    artifact = ArtifactStore(str(home / "store"), home / "cache").latest("a")
    assert artifact
    flip_a_bit(home / "store" / artifact.manifest.files[1].blobs[-1].key)
    message = _dolly("artifacts", "fetch", "a", tmp_path / "new" / "out", code=2).stderr
    assert "file 'weights/model' is damaged in the store from byte 16777216" in message
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.slow
def test_gc_lists_first_and_deletes_only_on_request(home: Path, tmp_path: Path) -> None:
    first, second = (_publish(home, tmp_path, text) for text in ("1", "2"))
    (tmp_path / "policy.yaml").write_text(POLICY)
    listed = _dolly("gc", "--policy", tmp_path / "policy.yaml").stdout
    assert f"would delete {first.manifest.key}" in listed
    assert "would delete 1 publication, 0 folders of others, 1 blob of 1 B" in listed
    assert "run it again with --delete" in listed
    assert first.is_complete()
    assert "0 publications" in _dolly("gc", "--delete").stdout
    assert (
        "deleted 1 publication, "
        in _dolly("gc", "--policy", tmp_path / "policy.yaml", "--delete").stdout
    )
    store = ArtifactStore(str(home / "store"), home / "cache")
    assert [artifact.digest for artifact in store.history("a")] == [second.digest]
    assert "0 damaged" in _dolly("verify").stdout
    (tmp_path / "policy.yaml").write_text("rule: []")
    assert (
        "policy.yaml: rule: Extra"
        in _dolly("gc", "--policy", tmp_path / "policy.yaml", code=2).stderr
    )


@pytest.mark.slow
def test_gc_keeps_what_a_current_materialization_points_at(home: Path, tmp_path: Path) -> None:
    """Materializations of another partition, and older ones of the same, refer to artifacts too."""
    published = [_publish(home, tmp_path, text) for text in "12345"]
    (home / "dagster").mkdir()
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        for index, partition in ((0, "x"), (1, "x"), (2, "y")):
            instance.report_runless_asset_event(
                dg.AssetMaterialization(
                    "a", partition=partition, tags={"dagster/data_version": published[index].digest}
                )
            )
    (tmp_path / "policy.yaml").write_text(POLICY)
    _dolly("gc", "--policy", tmp_path / "policy.yaml", "--delete")
    store = ArtifactStore(str(home / "store"), home / "cache")
    assert [left.digest for left in store.history("a")] == [
        published[index].digest for index in (4, 2, 1)
    ]
    assert all(left.is_complete() for left in store.history("a"))


@pytest.mark.slow
def test_gc_removes_no_artifact_while_another_instance_may_point_at_it(
    home: Path, tmp_path: Path
) -> None:
    """The older publication would go; a run of another Dagster instance made the newer one."""
    first, second = (_publish(home, tmp_path, text, run_id="elsewhere") for text in "12")
    (tmp_path / "policy.yaml").write_text(POLICY)
    arguments = ("gc", "--policy", tmp_path / "policy.yaml")
    listed = _dolly(*arguments).stdout
    assert f"another Dagster instance: {second.manifest.key}" in listed
    assert "run this where dagster.yaml in $DOLLY_HOME/dagster is that of the instance" in listed
    refused = _dolly(*arguments, "--delete", code=2).stderr
    assert (
        "nothing was removed: 2 publications are by runs of another Dagster instance (a)" in refused
    )
    assert first.is_complete()
    assert "0 publications" in _dolly("gc", "--delete").stdout  # what no record names is nobody's
    assert "deleted 1 publication, " in _dolly(*arguments, "--delete", "--only-instance").stdout
    assert len(ArtifactStore(str(home / "store"), home / "cache").history("a")) == 1


@pytest.mark.slow
def test_gc_knows_the_runs_of_its_own_instance(home: Path, tmp_path: Path) -> None:
    (home / "dagster").mkdir(parents=True)
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:

        @dg.job
        def nothing() -> None: ...

        run_id = nothing.execute_in_process(instance=instance).run_id
    for text in "12":
        _publish(home, tmp_path, text, run_id=run_id)
    (tmp_path / "policy.yaml").write_text(POLICY)
    assert (
        "deleted 1 publication, "
        in _dolly("gc", "--policy", tmp_path / "policy.yaml", "--delete").stdout
    )
