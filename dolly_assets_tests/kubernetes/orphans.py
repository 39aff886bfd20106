"""The sensor `orphaned_jobs` over a stand-in cluster, and ended runs of a real instance."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import yaml

from dolly_assets.automation.orphaned_jobs import orphaned_jobs
from dolly_assets.dagster_support.resources import StoreResource, WorkerResource
from dolly_assets_tests.kubernetes.cluster import NAMESPACE


@dg.job
def nothing() -> None: ...


@contextmanager
def run_that_is_over() -> Iterator[tuple[dg.DagsterInstance, str]]:
    """An instance, and the id of a run in it that has ended."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance, nothing.execute_in_process(instance=instance).run_id


def look_for_orphans(instance: dg.DagsterInstance, folder: Path, namespace: str = NAMESPACE) -> str:
    """Lets the sensor check the Jobs of the folder's store once; returns its message."""
    settings = folder / "kubernetes.yaml"
    settings.write_text(
        yaml.safe_dump({"namespace": namespace, "image": "any", "orphan_minutes": 0})
    )
    store = StoreResource(url=str(folder / "store"), cache_dir=str(folder / "cache"))
    worker = WorkerResource(store=store, scratch_dir=str(folder), kubernetes_file=str(settings))
    with dg.build_sensor_context(
        instance=instance, resources={"store": store, "worker": worker}
    ) as context:
        skipped = orphaned_jobs(context)
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message
    return skipped.skip_message
