"""deploy/instance/dagster.yaml on a real Postgres and S3.

A run, its events and logs, the pool, backup and restore.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import dagster as dg
import pytest
import yaml

from deploy import chart, check, pods
from deploy.instance import INSTANCE, VARIABLES
from dolly_assets.core.environment import Environment
from dolly_assets.dagster_support.partitions import DATASETS, GPU_POOL
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.pipeline.session import Session
from dolly_assets_tests.deploy.services import LOGS_BUCKET, Postgres

RAW_DATASET = dg.AssetKey("raw_dataset")


@pytest.fixture(scope="module")
def home(
    postgres: Postgres, s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A DAGSTER_HOME as compose.yaml has it, in the environment that it has there."""
    folder = tmp_path_factory.mktemp("instance")
    shutil.copy(INSTANCE, folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**postgres.variables, **s3, "DAGSTER_HOME": str(folder)}.items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(scope="module")
def dolly_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DOLLY_HOME, with the store in it."""
    return tmp_path_factory.mktemp("dolly")


@pytest.fixture(scope="module")
def run_id(home: Path, animals: Path, dolly_home: Path) -> str:
    """A run that materialized raw_dataset of `animals`."""
    session = Session(Environment(home=dolly_home, store_url=str(dolly_home / "store")))
    session.catalogue.add(DatasetConfig(name="animals", source=str(animals), license="CC0-1.0"))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions(str(DATASETS.name), ["animals"])
        result = session.job.execute_in_process(
            instance=instance, asset_selection=[RAW_DATASET], partition_key="animals"
        )
    assert result.success
    return result.run_id


def read_back(home: Path, run_id: str) -> tuple[dg.DagsterRunStatus, str | None, list[str]]:
    """The run's status, the partition that it materialized, and the partitions that are known."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run = instance.get_run_by_id(run_id)
        [record] = instance.fetch_materializations(RAW_DATASET, limit=5).records
        assert run
        assert record.run_id == run_id
        return (
            run.status,
            record.partition_key,
            list(instance.get_dynamic_partitions(str(DATASETS.name))),
        )


EXPECTED = (dg.DagsterRunStatus.SUCCESS, "animals", ["animals"])


def test_a_runs_events_are_in_postgres_and_its_logs_in_s3(home: Path, run_id: str) -> None:
    assert read_back(home, run_id) == EXPECTED
    assert not list(home.rglob("*.db"))
    keys = [
        found["Key"]
        for found in boto3.client("s3").list_objects_v2(Bucket=LOGS_BUCKET).get("Contents", [])
    ]
    assert any(run_id in key and key.startswith("compute-logs/") for key in keys), keys


def dagster_yaml_of_prod(postgres: Postgres) -> str:
    """The chart's dagster.yaml, whose run launcher needs a cluster that does not exist."""
    content = chart.dagster_yaml(chart.values_of("prod"))
    for storage in ("run_storage", "event_log_storage", "schedule_storage"):
        content[storage]["config"]["postgres_db"] |= {
            "hostname": postgres.host,
            "params": {},
        }  # no TLS here
    return yaml.safe_dump(content)


def test_garbage_is_collected_by_the_command_that_is_deployed_on_the_deployed_instance(
    run_id: str, dolly_home: Path, postgres: Postgres, tmp_path: Path
) -> None:
    """It keeps what the database knows as current, and takes no run for one of another instance."""
    found = {
        each["kind"]: each for file, each in check.objects("base") if file.name == "collector.yaml"
    }
    pod = pods.pod_of(found["CronJob"]) or {}
    [container] = pod["containers"]
    policy = yaml.safe_load(found["ConfigMap"]["data"]["policy.yaml"])
    policy["rules"] = [{"artifacts": "*", "publications": 1}]
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["instance"] == f"{mounts['home']}/dagster/dagster.yaml"
    instance = tmp_path / "home" / "dagster" / "dagster.yaml"
    instance.parent.mkdir(parents=True)
    instance.write_text(dagster_yaml_of_prod(postgres))
    command = [
        str(tmp_path / "policy.yaml") if part == f"{mounts['retention']}/policy.yaml" else part
        for part in container["command"]
    ]
    done = subprocess.run(
        command,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DAGSTER_PG_PASSWORD": "secret",
            "DOLLY_LOGS_BUCKET": LOGS_BUCKET,
            "DOLLY_HOME": str(tmp_path / "home"),
            "DOLLY_STORE": str(dolly_home / "store"),
            "DAGSTER_HOME": "/opt/dagster/dagster_home",  # the image's
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.splitlines()[-1].startswith("deleted 0 publications, 0 folders of others")
    assert not list(tmp_path.rglob("*.db"))


def test_the_pool_is_made_by_the_command_that_is_deployed(
    home: Path, postgres: Postgres, tmp_path: Path
) -> None:
    [job] = [each for _, each in check.objects("prod") if each["kind"] == "CronJob"]
    [container] = (pods.pod_of(job) or {})["containers"]
    (tmp_path / "dagster.yaml").write_text(dagster_yaml_of_prod(postgres))
    settings = next(each for _, each in check.objects("prod") if each["kind"] == "ConfigMap")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DAGSTER_PG_PASSWORD": "secret",
        **settings["data"],
        "DAGSTER_HOME": str(tmp_path),
    }
    assert set(environment) - {"PATH"} <= {*VARIABLES, *settings["data"]}
    subprocess.run(container["command"], env=environment, check=True, timeout=120)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        limit = instance.event_log_storage.get_concurrency_info(GPU_POOL).slot_count
    assert str(limit) == container["command"][-1]


def test_a_backup_is_restored(home: Path, run_id: str, postgres: Postgres, tmp_path: Path) -> None:
    """The commands of docs/backup.md."""
    dump = str(tmp_path / "dagster.dump")
    postgres.run("pg_dump", "--format", "custom", "--file", dump, "dagster")
    postgres.run("dropdb", "dagster")
    postgres.run("createdb", "dagster")
    postgres.run("pg_restore", "--dbname", "dagster", "--exit-on-error", dump)
    assert read_back(home, run_id) == EXPECTED
