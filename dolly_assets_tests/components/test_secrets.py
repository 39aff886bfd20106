"""Secrets of the environment appear neither in Dagster's UI nor in what is kept of a run."""

import json
import logging
import sqlite3
import sys
import traceback
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster_graphql.test.utils import execute_dagster_graphql

from dolly_assets.components.code_location import build, component_trees
from dolly_assets.core.environment import Environment
from dolly_assets_tests.home import TINY_FAMILY

MARK = "MARKED-SECRET"
RESOURCES = """
query ($repository: RepositorySelector!) {
  allTopLevelResourceDetailsOrError(repositorySelector: $repository) {
    ... on ResourceDetailsList {
      results { name description configuredValues { value } configFields { defaultValueAsJson } }
    }
  }
}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DOLLY_HOME in an environment whose secrets are marked."""
    (tmp_path / "dagster").mkdir()
    monkeypatch.setenv("DOLLY_HOME", str(tmp_path))
    alerts = f"http://127.0.0.1:9/{MARK} slack+https://user:{MARK}@127.0.0.1:9/{MARK}"
    monkeypatch.setenv("DOLLY_ALERTS", alerts)
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, MARK)
    for name in ("DOLLY_STORE", "DOLLY_INBOX", "DOLLY_DEFS", "DOLLY_KUBERNETES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def kept_in(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Everything that the files of a folder hold, compressed columns of databases unpacked."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        yield path, path.read_bytes()
        if path.suffix != ".db":
            continue
        with sqlite3.connect(path) as database:
            tables = database.execute("select name from sqlite_master where type = 'table'")
            for (table,) in tables.fetchall():
                for row in database.execute(f"select * from {table}"):
                    for column in (value for value in row if isinstance(value, bytes)):
                        with suppress(zlib.error):
                            yield path, zlib.decompress(column)


def shown_resources(instance: dg.DagsterInstance) -> list[dict[str, object]]:
    """What the UI's page of resources shows."""
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(
            executable_path=sys.executable, module_name="dolly_assets.definitions"
        ),
        location_name="here",
    )
    with WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as workspace:
        context = workspace.create_request_context()
        [repository] = context.code_locations[0].get_repositories()
        selector = {"repositoryName": repository, "repositoryLocationName": "here"}
        answer = execute_dagster_graphql(context, RESOURCES, {"repository": selector})
    return answer.data["allTopLevelResourceDetailsOrError"]["results"]


@pytest.mark.parametrize(
    "yaml",
    [
        "type: dolly_assets.components.DatasetsComponent\n"
        "attributes: {datasets: [{name: new, source: 'https://user:%s@host/x'}]}\n",
        TINY_FAMILY.replace("untrained:", "source: 'https://user:%s@host/x'\n    untrained:"),
    ],
)
def test_dagster_does_not_show_a_password_of_wrong_yaml(home: Path, yaml: str) -> None:
    file = home / "defs" / "new" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml % MARK)
    [_, tree] = component_trees(Environment(home=home, store_url="", more_defs=home / "defs"))
    with pytest.raises(Exception, match="new") as refused:  # Dagster's, with ours as its cause
        tree.get_all_components(of_type=dg.Component)
    shown = "".join(traceback.format_exception(refused.value))
    assert "with a user name or password: remove it" in shown
    assert MARK not in shown


@pytest.mark.slow
def test_secrets_are_neither_shown_nor_kept(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with dg.DagsterInstance.local_temp(str(home / "dagster")) as instance:
        shown = shown_resources(instance)
        assert {"alerts", "store"} <= {resource["name"] for resource in shown}
        assert MARK not in json.dumps(shown)

        definitions = build(Environment.read())
        alerts = definitions.resources["alerts"] if definitions.resources else None
        assert MARK not in repr(alerts), "errors can show it"
        job = definitions.resolve_implicit_global_asset_job_def()
        instance.add_dynamic_partitions("dataset", ["demo"])
        result = job.execute_in_process(
            asset_selection=[dg.AssetKey("raw_dataset")], partition_key="demo", instance=instance
        )
        assert result.success
    kept = list(kept_in(home))
    assert any(b"StoreResource" in content or b"io_manager" in content for _, content in kept), (
        "the snapshots of the run were read"
    )
    assert not {path for path, content in kept if MARK.encode() in content}
    assert MARK not in caplog.text
