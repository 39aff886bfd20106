"""Loads a dagster.yaml as Dagster does, with all its classes, and builds its runs' Job."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from unittest import mock

import yaml

from dolly_assets.core.text import one_line

INSTANCE = Path(__file__).parent / "instance" / "dagster.yaml"
# Variables that the chart or compose.yaml sets; no check depends on their values.
VARIABLES = {
    "DAGSTER_HOME": "/opt/dagster/dagster_home",
    "DAGSTER_PG_HOST": "postgres",
    "DAGSTER_PG_USERNAME": "dagster",
    "DAGSTER_PG_PASSWORD": "secret",
    "DAGSTER_PG_DB": "dagster",
    "DOLLY_LOGS_BUCKET": "dolly-logs",
}
CLASSES = (
    "run_storage_data",
    "event_storage_data",
    "schedule_storage_data",
    "run_launcher_data",
    "run_coordinator_data",
    "compute_logs_data",
)


@contextmanager
def instance_ref(content: Mapping[str, Any]) -> Iterator[Any]:
    """Yield Dagster's InstanceRef of a dagster.yaml, with the variables that it uses set.

    Raises:
        DagsterInvalidConfigError: A key or value of the file is wrong.
    """
    from dagster._core.instance.ref import InstanceRef

    with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, VARIABLES):
        (Path(home) / "dagster.yaml").write_text(yaml.safe_dump(dict(content)))
        yield InstanceRef.from_dir(home)


def class_config(data: Any) -> Mapping[str, Any]:
    """Return the configuration of one of its classes: validated, with variables and defaults.

    Raises:
        DagsterInvalidConfigError: A key or value is wrong.
    """
    from dagster._config import process_config, resolve_to_config_type
    from dagster._core.errors import DagsterInvalidConfigError

    given = yaml.safe_load(data.config_yaml)
    kind = getattr(import_module(data.module_name), data.class_name)
    found = process_config(resolve_to_config_type(kind.config_type()), given)
    if not found.success:
        raise DagsterInvalidConfigError(f"{data.class_name} in dagster.yaml", found.errors, given)
    return found.value or {}


def problems_of(content: Mapping[str, Any]) -> list[str]:
    """Return Dagster's objections to a dagster.yaml; none if it loads."""
    from dagster._core.errors import DagsterInvalidConfigError

    try:
        with instance_ref(content) as ref:
            for name in CLASSES:
                if data := getattr(ref, name):
                    class_config(data)
    except DagsterInvalidConfigError as error:
        return [one_line(error)]
    return []


def run_job(content: Mapping[str, Any], image: str) -> dict[str, Any]:
    """Return the Kubernetes Job that the run launcher of a dagster.yaml submits for a run."""
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import (
        DagsterK8sJobConfig,
        UserDefinedDagsterK8sConfig,
        construct_dagster_k8s_job,
    )
    from kubernetes import client

    with instance_ref(content) as ref:
        config = class_config(ref.run_launcher_data)
        context = K8sContainerContext(
            image_pull_policy=config["image_pull_policy"],
            service_account_name=config["service_account_name"],
            env_config_maps=config["env_config_maps"],
            env_secrets=config["env_secrets"],
            resources=config["resources"],
            volumes=config["volumes"],
            volume_mounts=config["volume_mounts"],
            security_context=config["security_context"],
            namespace=config["job_namespace"],
            run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(config["run_k8s_config"]),
        )
        names = ("dagster_home", "instance_config_map", "postgres_password_secret")
        job = construct_dagster_k8s_job(
            DagsterK8sJobConfig(job_image=image, **{name: config[name] for name in names}),
            args=["dagster", "api", "execute_run"],
            job_name="dagster-run-00000000-0000-0000-0000-000000000000",
            component="run_worker",
            user_defined_k8s_config=context.run_k8s_config,
        )
    return cast(dict[str, Any], client.ApiClient().sanitize_for_serialization(job))
