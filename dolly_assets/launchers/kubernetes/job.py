"""The `batch/v1` Job of a worker, built from spec, settings, the family's YAML and tags.

It makes no requests. Configuration is merged by dagster-k8s, each overriding the one before: ours,
the deployment's, the family's `compute.kubernetes`, the tag `dagster-k8s/config`.
"""

import copy
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_pipes import decode_param, encode_param

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.hashing import json_digest
from dolly_assets.core.text import one_line
from dolly_assets.family import ModelFamily
from dolly_assets.launchers.kubernetes.pods import Job, tolerated_exit_codes
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.launchers.kubernetes.worker_resources import WorkerResources
from dolly_assets.storage.conventions import MESSAGES
from dolly_assets.worker.spec import Train, WorkerSpec

if TYPE_CHECKING:
    from dagster_k8s.container_context import K8sContainerContext

PREFIX = "dolly-assets/"  # of labels and annotations
RUN, ROOT_RUN, INSTANCE, WORK, DEPLOYMENT = (
    f"{PREFIX}{name}" for name in ("run", "root-run", "instance", "work", "deployment")
)
IMAGE_VARIABLE = "DOLLY_IMAGE"  # read by the sampler
SCRATCH = "/scratch"
PORT = 29500
USER = 10001  # of the worker's image
CHECK_SECONDS = 1800
NO_BACKOFF_LIMIT = 2**31 - 1
RENEWAL = re.compile(r"-r(\d+)$")  # at the end of a Job's name


@dataclass(frozen=True)
class Owner:
    """The run that a Job works for."""

    run_id: str
    root_run_id: str  # of the first of its re-executions
    step: str
    instance: str = ""  # id of the Dagster instance that knows the run
    attempt: int = 1  # of the step in its run
    labels: Mapping[str, str] = field(default_factory=dict)  # asset, partition
    config: Mapping[str, Any] = field(default_factory=dict)  # the tag dagster-k8s/config


def work_of(spec: WorkerSpec) -> str:
    """Return a label value that two Jobs share exactly if they do the same work.

    The epochs of a training do not matter.
    """
    task = spec.task
    what = (
        [task.dataset, task.training] if isinstance(task, Train) else task.model_dump(mode="json")
    )
    return _digest([spec.store_url, spec.family.name, task.task, what])


def deployment_of(store_url: str) -> str:
    """Return a label value that all Jobs of one store share."""
    return _digest(store_url)


def job_name(spec: WorkerSpec, owner: Owner) -> str:
    """Return the Job's name: the same for the same run, step, work and attempt.

    It is short enough for the names of its pods and hosts.
    """
    family = spec.family.name.replace("_", "-")[:20].strip("-")
    digest = _digest([owner.run_id, owner.step, work_of(spec)])[:12]
    return f"dolly-{family}-{digest}-{owner.attempt}"


def labels_of(owner: Owner) -> dict[str, str]:
    """Return the labels of a Job that say whose it is."""
    return {RUN: owner.run_id, ROOT_RUN: owner.root_run_id, INSTANCE: owner.instance}


def messages_of(job: str) -> str:
    """Return the prefix in the store of the messages of a Job's worker, renewed or not."""
    return f"{MESSAGES}/{RENEWAL.sub('', job)}"


def epochs_of(job: Job) -> tuple[int, ...]:
    """Return the epochs that a Job trains; none if it does something else."""
    variables = {item.name: item.value for item in job.spec.template.spec.containers[0].env}
    task = decode_param(variables["DOLLY_SPEC"])["task"]
    return tuple(task.get("epochs", ()))


def build_job(spec: WorkerSpec, settings: KubernetesSettings, owner: Owner) -> Job:
    """Return the Job of a worker.

    Raises:
        ConfigurationError: A key of the configuration is not one of Kubernetes' objects.
    """
    worker, name = WorkerResources.of(spec), job_name(spec, owner)
    labels = {
        **labels_of(owner),
        WORK: work_of(spec),
        DEPLOYMENT: deployment_of(spec.store_url),
        f"{PREFIX}family": spec.family.name,
        **{f"{PREFIX}{key}": value for key, value in owner.labels.items()},
    }
    if isinstance(spec.task, Train):
        labels[f"{PREFIX}dataset"] = spec.task.dataset
    configs = [
        _ours(spec, settings, worker, name, owner),
        settings.config,
        spec.family.compute.kubernetes.config,
        owner.config,
    ]
    job = _built(name, settings.image, labels, configs, spec.family.name)
    _record_image(job)
    return job


def renewed(job: Job, restarts: int) -> Job:
    """Return a Job that continues the work of another, whose pods have all ended.

    Args:
        job: The other, as the API returned it.
        restarts: How often it may restart.
    """
    from kubernetes.client import V1Job, V1ObjectMeta

    old = job.metadata.name
    found = RENEWAL.search(old)
    name = f"{RENEWAL.sub('', old)}-r{int(found[1]) + 1 if found else 2}"
    spec = copy.deepcopy(job.spec)
    spec.selector, spec.backoff_limit_per_index = None, restarts
    spec.template.metadata.labels = _own(spec.template.metadata.labels)
    for variable in spec.template.spec.containers[0].env:
        if variable.name == "DOLLY_MEET":
            variable.value = variable.value.replace(f"{old}-0.", f"{name}-0.", 1)
    metadata = V1ObjectMeta(
        name=name, labels=_own(job.metadata.labels), annotations=job.metadata.annotations
    )
    return V1Job(api_version="batch/v1", kind="Job", metadata=metadata, spec=spec)


def _own(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels without those that the Job controller adds."""
    added = ("batch.kubernetes.io/", "controller-uid", "job-name")
    return {key: value for key, value in labels.items() if not key.startswith(added)}


def build_check(
    settings: KubernetesSettings, name: str, command: Sequence[str], family: ModelFamily | None
) -> Job:
    """Return a Job like a worker's that runs a short command in the worker's image.

    Args:
        settings: The deployment's settings.
        name: Name of the Job.
        command: What it runs.
        family: Whose Kubernetes configuration applies, if any.

    Raises:
        ConfigurationError: A key of the configuration is not one of Kubernetes' objects.
    """
    small = {"cpu": "1", "memory": "1Gi"}
    variables = [{"name": key, "value": SCRATCH} for key in ("DOLLY_HOME", "HOME")]
    container, pod = _secured(
        settings.service, command, variables, {"requests": small, "limits": small}
    )
    # It fails at the first error, and is removed even if the process that created it is gone.
    job = {
        "backoff_limit": 0,
        "ttl_seconds_after_finished": 600,
        "active_deadline_seconds": CHECK_SECONDS,
    }
    ours = {"container_config": container, "pod_spec_config": pod, "job_spec_config": job}
    configs = [ours, settings.config, family.compute.kubernetes.config if family else {}]
    return _built(name, settings.image, {}, configs, family.name if family else "the deployment")


def resources_of(family: ModelFamily, settings: KubernetesSettings) -> dict[str, dict[str, str]]:
    """Return the requests and limits of each pod that trains a family."""
    worker = WorkerResources(family.compute.nodes, 1, family.compute.gpus)
    gpu = family.compute.kubernetes.gpu_resource or settings.gpu_resource
    ours = {"container_config": {"resources": _resources(family, worker, gpu)}}
    merged = _merged([ours, settings.config, family.compute.kubernetes.config])
    return merged.run_k8s_config.container_config["resources"]


def _record_image(job: Job) -> None:
    """Give the worker the name of the image that it runs in, for its profiles to record."""
    from kubernetes.client import V1EnvVar

    worker = job.spec.template.spec.containers[0]
    if not any(variable.name == IMAGE_VARIABLE for variable in worker.env):
        worker.env.insert(0, V1EnvVar(name=IMAGE_VARIABLE, value=worker.image))


def _built(
    name: str,
    image: str,
    labels: Mapping[str, str],
    configs: Sequence[Mapping[str, Any]],
    whose: str,
) -> Job:
    from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job

    try:
        merged = _merged(configs)
        plain = DagsterK8sJobConfig(job_image=image, dagster_home=None)
        all_labels = {"app.kubernetes.io/part-of": "dolly", **labels}
        return construct_dagster_k8s_job(
            plain,
            None,
            name,
            merged.run_k8s_config,
            pod_name=name,
            component="worker",
            labels=all_labels,
        )
    except Exception as error:
        raise ConfigurationError(
            f"{whose}: its Kubernetes configuration is wrong: {one_line(error)}"
        ) from error


def _merged(configs: Sequence[Mapping[str, Any]]) -> "K8sContainerContext":
    """Return configurations merged, each overriding those before it."""
    first, *others = map(_context, configs)
    return functools.reduce(lambda merged, each: merged.merge(each), others, first)


def _context(config: Mapping[str, Any]) -> "K8sContainerContext":
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import UserDefinedDagsterK8sConfig

    return K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(dict(config)))


def _ours(
    spec: WorkerSpec,
    settings: KubernetesSettings,
    worker: WorkerResources,
    name: str,
    owner: Owner,
) -> dict[str, Any]:
    """Return the configuration of a worker before the deployment, family and tags override it."""
    family = spec.family
    resources = _resources(
        family, worker, family.compute.kubernetes.gpu_resource or settings.gpu_resource
    )
    variables = _variables(spec, settings, worker, name)
    container, pod = _secured(
        settings.service, ["python", "-m", "dolly_assets.worker.pod"], variables, resources
    )
    pod["termination_grace_period_seconds"] = math.ceil(60 * family.compute.save_minutes)
    annotations = {"annotations": _annotations(spec, settings, owner)}
    return {
        "container_config": container,
        "pod_spec_config": pod,
        "pod_template_spec_metadata": annotations,
        "job_metadata": annotations,
        "job_spec_config": _job_spec(settings, worker),
    }


def _annotations(spec: WorkerSpec, settings: KubernetesSettings, owner: Owner) -> dict[str, str]:
    """Return what a reader of `kubectl describe` looks for, in full; labels may be shortened."""
    task = spec.task
    found = {"family": spec.family.name, "task": task.task}
    if settings.ui_url:
        found["run-url"] = f"{settings.ui_url.rstrip('/')}/runs/{owner.run_id}"
    if isinstance(task, Train):
        found |= {"dataset": task.dataset, "epochs": ", ".join(map(str, task.epochs))}
    return {f"{PREFIX}{key}": value for key, value in found.items()}


def _secured(
    service: str, command: Sequence[str], variables: list[dict[str, Any]], resources: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return container and pod without privileges, with a read-only root file system."""
    volumes = {
        "scratch": (SCRATCH, {}),
        "tmp": ("/tmp", {}),  # noqa: S108 the root is read-only
        "shared-memory": ("/dev/shm", {"medium": "Memory"}),  # noqa: S108 NCCL's and gloo's
    }
    container = {
        "name": "worker",
        "image_pull_policy": "IfNotPresent",
        "command": list(command),
        "env": variables,
        "resources": resources,
        "volume_mounts": [
            {"name": volume, "mount_path": path} for volume, (path, _) in volumes.items()
        ],
        "security_context": {
            "allow_privilege_escalation": False,
            "read_only_root_filesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "subdomain": service,
        "automount_service_account_token": False,
        "security_context": {
            "run_as_non_root": True,
            "run_as_user": USER,
            "run_as_group": USER,
            "fs_group": USER,
            "seccomp_profile": {"type": "RuntimeDefault"},
        },
        "volumes": [{"name": volume, "empty_dir": kind} for volume, (_, kind) in volumes.items()],
    }
    return container, pod


def _job_spec(settings: KubernetesSettings, worker: WorkerResources) -> dict[str, Any]:
    """Return the Job's own configuration.

    What ends a training for good is what its worker says by its exit code. All else is a restart:
    a disruption, a worker that has stopped on request, a container that the machine has ended.
    https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy

    Restarts are counted for each index, and so is the pause before them, which doubles with each
    restart: for a Job as a whole, every pod of a gang would double it.
    https://kubernetes.io/docs/concepts/workloads/controllers/job/#backoff-limit-per-index
    """
    rules = [
        {"action": "Count", "on_pod_conditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "on_exit_codes": {
                "container_name": "worker",
                "operator": "NotIn",
                "values": tolerated_exit_codes(worker.nodes),
            },
        },
    ]
    spec: dict[str, Any] = {
        "completion_mode": "Indexed",
        "completions": worker.nodes,
        "parallelism": worker.nodes,
        "backoff_limit": NO_BACKOFF_LIMIT,
        "backoff_limit_per_index": settings.restarts,
        "max_failed_indexes": 0,
        "pod_failure_policy": {"rules": rules},
        "pod_replacement_policy": "Failed",
        "ttl_seconds_after_finished": math.ceil(60 * settings.keep_minutes),
    }
    if settings.run_minutes:
        # Kubernetes also counts the time in the queue.
        spec["active_deadline_seconds"] = math.ceil(
            60 * (settings.run_minutes + settings.queue_minutes)
        )
    return spec


def _resources(family: ModelFamily, worker: WorkerResources, gpu: str) -> dict[str, Any]:
    compute = family.compute
    memory = f"{math.ceil(compute.memory_gib * 1024)}Mi"
    requests = {"cpu": str(compute.cpus), "memory": memory}
    limits = {"memory": memory}
    if compute.kubernetes.ephemeral_storage_gib:
        # Without a limit of its own, a LimitRange's default would apply, and refuse the pod or
        # evict it. https://kubernetes.io/docs/concepts/policy/limit-range
        disk = f"{math.ceil(compute.kubernetes.ephemeral_storage_gib * 1024)}Mi"
        requests["ephemeral-storage"] = limits["ephemeral-storage"] = disk
    if worker.gpus:
        limits[gpu] = requests[gpu] = str(worker.gpus)
    return {"requests": requests, "limits": limits}


def _variables(
    spec: WorkerSpec, settings: KubernetesSettings, worker: WorkerResources, name: str
) -> list[dict[str, Any]]:
    values = {
        "DOLLY_SPEC": encode_param(spec.model_dump(mode="json")),
        "DOLLY_SCRATCH": SCRATCH,
        "DOLLY_HOME": SCRATCH,
        "HOME": SCRATCH,
        "DOLLY_MESSAGES": messages_of(name),
        "DOLLY_RANKS": str(worker.ranks),
        "DOLLY_CPUS": str(spec.family.compute.cpus),
        "DOLLY_DEVICE": "gpu" if worker.gpus else "cpu",
        "DOLLY_NODES": str(worker.nodes),
        "DOLLY_MEET": f"{name}-0.{settings.service}:{PORT}",
        "DOLLY_MEET_SECONDS": str(math.ceil(60 * settings.queue_minutes)),
    }
    by_name = {"name": "DOLLY_POD", "value_from": {"field_ref": {"field_path": "metadata.name"}}}
    return [*({"name": key, "value": value} for key, value in values.items()), by_name]


def _digest(value: Any) -> str:
    """Return a digest that is short enough for a label value."""
    return json_digest(value)[:32]
