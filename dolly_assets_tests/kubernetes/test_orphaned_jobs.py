"""The sensor that ends Jobs without a living owner, on a real instance."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import yaml

from dolly_assets.assets.resources import StoreResource, WorkerResource
from dolly_assets.automation.orphaned_jobs import orphaned_jobs
from dolly_assets.compute.kubernetes.api import Api
from dolly_assets.compute.kubernetes.job import Owner, build_job
from dolly_assets_tests.kubernetes.cluster import NAMESPACE, Cluster
from dolly_assets_tests.kubernetes.conftest import Directed


@dg.job
def nothing() -> None: ...


def test_jobs_whose_runs_are_over_are_ended_and_no_others(
    cluster: Cluster, directed: Callable[..., Directed], tmp_path: Path
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        over = nothing.execute_in_process(instance=instance).run_id
        retried = nothing.execute_in_process(instance=instance).run_id
        living = instance.create_run_for_job(nothing).run_id
        instance.create_run_for_job(nothing, tags={"dagster/root_run_id": retried})
        for run in (over, retried, living):
            training = directed(training=run, owner=Owner(run, run, "fine_tune"))
            Api(NAMESPACE).create_job(build_job(training.spec, training.launcher.settings, training.owner))
        cluster.wait(lambda: len(cluster.running()) == 3)
        settings = tmp_path / "kubernetes.yaml"
        settings.write_text(yaml.safe_dump({"namespace": NAMESPACE, "image": "any", "orphan_minutes": 0}))
        store = StoreResource(url=str(tmp_path / "store"), cache_dir=str(tmp_path / "cache"))
        worker = WorkerResource(store=store, scratch_dir=str(tmp_path), kubernetes_file=str(settings))
        with dg.build_sensor_context(instance=instance, resources={"store": store, "worker": worker}) as context:
            skipped = orphaned_jobs(context)
    assert isinstance(skipped, dg.SkipReason)
    cluster.wait(lambda: len(cluster.jobs()) == 2)
    owners = {job["metadata"]["labels"]["dolly-assets/run"] for job in cluster.jobs()}
    assert owners == {retried, living}
    cluster.wait(lambda: cluster.gpus_booked() == 2)
