"""The sensor that ends Jobs without a living owner, on a real instance."""

from collections.abc import Callable
from pathlib import Path

from dolly_assets.dagster_support.seams import instance_id
from dolly_assets.launchers.kubernetes.api import Api
from dolly_assets.launchers.kubernetes.job import Owner, build_job
from dolly_assets_tests.kubernetes.cluster import NAMESPACE, Cluster
from dolly_assets_tests.kubernetes.directed import Directed
from dolly_assets_tests.kubernetes.orphans import look_for_orphans, nothing, run_that_is_over


def test_jobs_whose_runs_are_over_are_ended_and_no_others(
    cluster: Cluster, directed: Callable[..., Directed], tmp_path: Path
) -> None:
    with run_that_is_over() as (instance, over):
        retried = nothing.execute_in_process(instance=instance).run_id
        living = instance.create_run_for_job(nothing).run_id
        instance.create_run_for_job(nothing, tags={"dagster/root_run_id": retried})
        for run in (over, retried, living):
            training = directed(owner=Owner(run, run, "fine_tune"))
            Api(NAMESPACE).create_job(
                build_job(training.spec, training.launcher.settings, training.owner)
            )
        cluster.wait(lambda: len(cluster.running()) == 3)
        assert look_for_orphans(instance, tmp_path).count("dolly-tiny") == 1
    cluster.wait(lambda: len(cluster.jobs()) == 2)
    owners = {job["metadata"]["labels"]["dolly-assets/run"] for job in cluster.jobs()}
    assert owners == {retried, living}
    cluster.wait(lambda: cluster.gpus_booked() == 2)


def test_jobs_of_another_deployment_on_the_same_store_are_left_to_it(
    cluster: Cluster, directed: Callable[..., Directed], tmp_path: Path
) -> None:
    with run_that_is_over() as (there, over), run_that_is_over() as (here, _):
        owner = Owner(over, over, "fine_tune", instance=instance_id(there))
        training = directed(owner=owner)
        Api(NAMESPACE).create_job(build_job(training.spec, training.launcher.settings, owner))
        assert look_for_orphans(here, tmp_path) == "every Job has an owner"
        assert look_for_orphans(there, tmp_path).startswith("deleted dolly-tiny")
    cluster.wait(lambda: not cluster.jobs())
