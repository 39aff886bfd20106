"""The Job of a worker: valid by Kubernetes' own schema, and whose configuration wins."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from dolly_assets.core.environment import PROJECT
from dolly_assets.core.errors import ConfigurationError, TrainingError
from dolly_assets.family import KubernetesCompute
from dolly_assets.launchers.kubernetes.job import Owner, build_job
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.worker.spec import ArtifactRef, Evaluate, Sample, WorkerSpec
from dolly_assets_tests.kubernetes.directed import Directed

OWNER = Owner("4a5f", "4a5f", "tiny__fine_tune")
KUBERNETES = "1.35"


def settings(**values: Any) -> KubernetesSettings:
    return KubernetesSettings.model_validate(
        {"namespace": "trainings", "image": "registry/worker:1", **values}
    )


def spec(folder: Path, **compute: Any) -> WorkerSpec:
    return Directed(folder, cluster=None, compute=compute).spec  # pyright: ignore[reportArgumentType]


def document(
    spec: WorkerSpec, settings: KubernetesSettings, owner: Owner = OWNER
) -> dict[str, Any]:
    from kubernetes.client import ApiClient

    found: Any = ApiClient().sanitize_for_serialization(build_job(spec, settings, owner))
    return found


def test_a_job_on_two_nodes_is_valid_kubernetes_and_asks_for_what_the_family_asks(
    tmp_path: Path,
) -> None:
    import kubernetes_validate

    asked = {"nodes": 2, "gpus": 2, "cpus": 16, "memory_gib": 100}
    job = document(spec(tmp_path, **asked), settings(run_minutes=60))
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    [worker] = job["spec"]["template"]["spec"]["containers"]
    assert worker["resources"]["requests"] == {
        "cpu": "16",
        "memory": "102400Mi",
        "nvidia.com/gpu": "2",
    }
    assert worker["resources"]["limits"] == {"memory": "102400Mi", "nvidia.com/gpu": "2"}
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (2, 2)
    assert (job["spec"]["backoffLimitPerIndex"], job["spec"]["maxFailedIndexes"]) == (10, 0)
    assert job["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    assert worker["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"name": "DOLLY_IMAGE", "value": worker["image"]} in worker["env"]


def test_deployment_family_and_tag_override_each_other_in_this_order(tmp_path: Path) -> None:
    def variables(who: str) -> dict[str, Any]:
        return {
            "container_config": {"env": [{"name": who, "value": who}], "image_pull_policy": who}
        }

    deployment = settings(config=variables("deployment"))
    family = KubernetesCompute(
        gpu_resource="amd.com/gpu", ephemeral_storage_gib=1, config=variables("family")
    )
    owner = dataclasses.replace(OWNER, config=variables("tag"))
    [worker] = document(spec(tmp_path, kubernetes=family), deployment, owner)["spec"]["template"][
        "spec"
    ]["containers"]
    names = [item["name"] for item in worker["env"]]
    assert worker["imagePullPolicy"] == "tag"
    assert names[-3:] == ["deployment", "family", "tag"]
    assert worker["resources"]["limits"]["amd.com/gpu"] == "1"
    for kind in ("requests", "limits"):  # a LimitRange's default limit may be lower
        assert worker["resources"][kind]["ephemeral-storage"] == "1024Mi"


def test_job_and_pods_say_whose_they_are(tmp_path: Path) -> None:
    job = document(spec(tmp_path), settings(ui_url="https://dagster.example.com/"))
    for item in (job, job["spec"]["template"]):
        assert item["metadata"]["annotations"] == {
            "dolly-assets/family": "tiny",
            "dolly-assets/task": "train",
            "dolly-assets/dataset": "animals",
            "dolly-assets/epochs": "1, 2, 3",
            "dolly-assets/run-url": "https://dagster.example.com/runs/4a5f",
        }
        labels = {"dolly-assets/family": "tiny", "dolly-assets/dataset": "animals"}
        assert item["metadata"]["labels"].items() >= labels.items()


def test_a_worker_knows_the_image_that_it_runs_in(tmp_path: Path) -> None:
    """Its profiles record it; a family's own image is the one that counts."""
    own = KubernetesCompute(config={"container_config": {"image": "registry/own@sha256:12"}})
    for compute, image in (
        ({}, "registry/worker:1"),
        ({"kubernetes": own}, "registry/own@sha256:12"),
    ):
        job = document(spec(tmp_path, **compute), settings())
        [worker] = job["spec"]["template"]["spec"]["containers"]
        assert worker["image"] == image
        assert {"name": "DOLLY_IMAGE", "value": image} in worker["env"]


def test_a_queue_of_kueue_is_a_label_of_the_job(tmp_path: Path) -> None:
    label = {"kueue.x-k8s.io/queue-name": "trainings"}
    job = document(spec(tmp_path), settings(config={"job_metadata": {"labels": label}}))
    assert job["metadata"]["labels"].items() >= label.items()


def test_a_name_is_that_of_run_step_work_and_attempt(tmp_path: Path) -> None:
    def name(owner: Owner) -> str:
        return document(spec(tmp_path), settings(), owner)["metadata"]["name"]

    others = [{"run_id": "other"}, {"step": "other"}, {"attempt": 2}]
    names = {name(OWNER), *(name(dataclasses.replace(OWNER, **changed)) for changed in others)}
    assert name(OWNER) == name(OWNER)
    assert len(names) == len(others) + 1


def test_a_key_that_kubernetes_does_not_know_is_refused_with_the_family(tmp_path: Path) -> None:
    wrong = KubernetesCompute(config={"pod_spec_config": {"toleration": []}})
    with pytest.raises(
        ConfigurationError, match=r"^tiny: its Kubernetes configuration is wrong: .*toleration"
    ):
        document(spec(tmp_path, kubernetes=wrong), settings())


@pytest.mark.parametrize(
    ("gigabytes", "compute", "gpus"),
    [
        (0, {"gpus": 8}, 1),  # unknown
        (12, {"gpus": 8}, 1),
        (24, {"gpus": 8}, 2),  # of which nothing is known
        (24, {"gpus": 8, "device": "A100-80GB"}, 1),
        (140, {"gpus": 8, "device": "A100-80GB"}, 3),
        (800, {"gpus": 8, "device": "A100-80GB"}, 8),  # all there are
        (24, {"gpus": 0}, 0),
    ],
)
def test_scoring_asks_for_as_many_gpus_as_hold_the_model(
    tmp_path: Path, gigabytes: int, compute: dict[str, Any], gpus: int
) -> None:
    checkpoints = {1: ArtifactRef(name="tiny/model_checkpoint/animals/01", digest="0" * 64)}
    for task in (
        Evaluate(dataset="animals", checkpoints=checkpoints),
        Sample(dataset="animals", checkpoints=checkpoints),
    ):
        changed = {"task": task, "weights_bytes": gigabytes * 10**9}
        job = document(spec(tmp_path, **compute).model_copy(update=changed), settings())
        [worker] = job["spec"]["template"]["spec"]["containers"]
        assert worker["resources"]["limits"].get("nvidia.com/gpu", "0") == str(gpus)
        assert job["spec"]["completions"] == 1


def test_ranks_that_cannot_share_the_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be shared by 3 ranks"):
        document(spec(tmp_path, nodes=3), settings())


def test_settings_name_the_file_and_the_key_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "kubernetes.yaml"
    file.write_text("namespace: a\nimage: b\nqueue_hours: 3\n")
    with pytest.raises(
        ConfigurationError, match=r"kubernetes\.yaml: queue_hours: Extra inputs are not permitted"
    ):
        KubernetesSettings.read(file)


def test_the_block_for_fast_networks_of_the_documentation_makes_a_valid_job(tmp_path: Path) -> None:
    import kubernetes_validate

    page = (PROJECT / "docs" / "kubernetes.md").read_text().partition("## Fast networks")[2]
    block = yaml.safe_load(page.partition("```yaml")[2].partition("```")[0])
    job = document(spec(tmp_path, nodes=2, gpus=2), settings(**block))
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    [worker] = job["spec"]["template"]["spec"]["containers"]
    assert {"nvidia.com/gpu", "hugepages-2Mi", "memory"} < set(worker["resources"]["limits"])
    assert worker["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"DOLLY_MEET", "NCCL_IB_HCA"} < {variable["name"] for variable in worker["env"]}
