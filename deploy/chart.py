"""The dagster.yaml that Dagster's Helm chart generates from our values.

The chart itself is not available offline. The keys below are those of its schema
(values.schema.json of helm/dagster in Dagster's repository, chart 1.13.27) that our values use; any
other is rejected, so that a misspelt key is found here and not in a cluster. Our values set each
default of the chart that reaches dagster.yaml, so that it is seen here.
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from dolly_assets.core.mappings import merged

CHART_VERSION = "1.13.27"
HELM = Path(__file__).parent / "helm"
ENVIRONMENTS = ("staging", "prod")
INSTANCE_CONFIG_MAP = "dagster-instance"  # of a release called `dagster`


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class Image(_Keys):
    """An image by repository and tag."""

    repository: str
    tag: str
    pull_policy: Literal["Always", "IfNotPresent", "Never"]


class Named(_Keys):
    """A Secret or ConfigMap whose keys become environment variables."""

    name: str


class Pod(_Keys):
    """The values that webserver, daemon and code location have in common."""

    image: Image
    pod_security_context: dict[str, Any]
    security_context: dict[str, Any]
    resources: dict[str, Any]
    env_secrets: list[Named]
    env_config_maps: list[Named]
    volumes: list[dict[str, Any]]
    volume_mounts: list[dict[str, Any]]


class Service(_Keys):
    """A Service; the container listens on its port."""

    type: Literal["ClusterIP"]
    port: int


class Webserver(Pod):
    """The UI."""

    replica_count: int
    service: Service
    readiness_probe: dict[str, Any]


class UserDeployment(Pod):
    """A code location."""

    name: str
    port: int
    code_server_args: list[str]
    include_config_in_launched_runs: dict[Literal["enabled"], bool]


class ServiceAccount(_Keys):
    """An account that the chart creates, or the name of an existing one."""

    create: bool
    name: str


class UserDeployments(_Keys):
    """The code locations."""

    enabled: bool
    enable_subchart: bool
    service_account: ServiceAccount
    deployments: list[UserDeployment]


class RunK8sConfig(_Keys):
    """Merged over each run's Job."""

    container_config: dict[str, Any] = {}  # such as GPUs, if runs train in their own pods
    pod_template_spec_metadata: dict[str, Any]
    pod_spec_config: dict[str, Any]
    job_spec_config: dict[str, Any]


class K8sRunLauncher(_Keys):
    """How runs are started."""

    image_pull_policy: str
    load_incluster_config: bool
    env_secrets: list[Named]
    env_config_maps: list[Named]
    resources: dict[str, Any]
    fail_pod_on_run_failure: bool
    volumes: list[dict[str, Any]]
    volume_mounts: list[dict[str, Any]]
    security_context: dict[str, Any]
    run_k8s_config: RunK8sConfig = Field(alias="runK8sConfig")


class RunLauncher(_Keys):
    """The run launcher; only Kubernetes Jobs here."""

    type: Literal["K8sRunLauncher"]
    config: dict[Literal["k8sRunLauncher"], K8sRunLauncher]


class S3ComputeLogManager(_Keys):
    """Where logs are stored."""

    bucket: str | dict[Literal["env"], str]
    prefix: str
    upload_interval: int
    skip_empty_files: bool


class ComputeLogManager(_Keys):
    """The log manager; only S3 here."""

    type: Literal["S3ComputeLogManager"]
    config: dict[Literal["s3ComputeLogManager"], S3ComputeLogManager]


class Pools(_Keys):
    """Limits of concurrent steps."""

    granularity: Literal["op", "run"]
    default_limit: int


class Runs(_Keys):
    """Limits of concurrent runs."""

    max_concurrent_runs: int


class Concurrency(_Keys):
    """Limits of concurrency."""

    enabled: bool
    runs: Runs
    pools: Pools


class RunMonitoring(_Keys):
    """When a run counts as dead."""

    enabled: bool
    start_timeout_seconds: int
    cancel_timeout_seconds: int
    poll_interval_seconds: int
    max_resume_run_attempts: int
    free_slots_after_run_end_seconds: int


class RunRetries(_Keys):
    """Which runs are retried."""

    enabled: bool
    max_retries: int
    retry_on_asset_or_op_failure: bool


class Queue(_Keys):
    """How runs leave the queue."""

    dequeue_use_threads: bool
    dequeue_num_workers: int


class RunCoordinator(_Keys):
    """The queue of runs."""

    enabled: bool
    type: Literal["QueuedRunCoordinator"]
    config: dict[Literal["queuedRunCoordinator"], Queue]


class Threads(_Keys):
    """How many ticks are evaluated at once."""

    use_threads: bool
    num_workers: int


class Daemon(Pod):
    """Schedules, sensors, queue, monitoring."""

    enabled: bool
    run_coordinator: RunCoordinator
    sensors: Threads
    schedules: Threads
    run_monitoring: RunMonitoring
    run_retries: RunRetries


class Ticks(_Keys):
    """How long ticks are kept, in days by outcome; -1 means forever."""

    purge_after_days: dict[Literal["skipped", "success", "failure", "started"], int]


class Retention(_Keys):
    """How long ticks are kept."""

    enabled: bool
    schedule: Ticks
    sensor: Ticks


class Postgres(_Keys):
    """The instance's database."""

    enabled: bool
    postgresql_scheme: str
    postgresql_host: str
    postgresql_username: str
    postgresql_database: str
    postgresql_params: dict[str, str]
    service: dict[Literal["port"], int]
    image: Image


class GlobalValues(_Keys):
    """Shared with the subchart."""

    postgresql_secret_name: str
    dagster_home: str


class Values(_Keys):
    """All values of an environment."""

    rbac_enabled: bool
    service_account: ServiceAccount
    global_: GlobalValues = Field(alias="global")
    generate_postgresql_password_secret: bool
    postgresql: Postgres
    busybox: dict[Literal["image"], Image]
    dagster_webserver: Webserver
    dagster_user_deployments: UserDeployments = Field(alias="dagster-user-deployments")
    run_launcher: RunLauncher
    compute_log_manager: ComputeLogManager
    concurrency: Concurrency
    dagster_daemon: Daemon
    retention: Retention
    telemetry: dict[Literal["enabled"], bool]
    ingress: dict[Literal["enabled"], bool]


def values_of(environment: str) -> Values:
    """Return the values of `helm upgrade --values values.yaml --values values-ENVIRONMENT.yaml`.

    Raises:
        pydantic.ValidationError: A key is not one of the chart's, or has another type.
    """
    common, own = (
        yaml.safe_load((HELM / name).read_text())
        for name in ("values.yaml", f"values-{environment}.yaml")
    )
    return Values.model_validate(merged(common, own))


def dagster_yaml(values: Values, namespace: str = "dagster") -> dict[str, Any]:
    """Return the dagster.yaml of the chart's ConfigMap, whose templates use snake_case."""
    launcher = values.run_launcher.config["k8sRunLauncher"]
    logs = values.compute_log_manager.config["s3ComputeLogManager"]
    daemon = values.dagster_daemon
    database = {
        "postgres_db": {
            "scheme": values.postgresql.postgresql_scheme,
            "username": values.postgresql.postgresql_username,
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "hostname": values.postgresql.postgresql_host,
            "db_name": values.postgresql.postgresql_database,
            "port": values.postgresql.service["port"],
            "params": values.postgresql.postgresql_params,
        }
    }
    return {
        "scheduler": {"module": "dagster.core.scheduler", "class": "DagsterDaemonScheduler"},
        "schedule_storage": _postgres("schedule_storage", "PostgresScheduleStorage", database),
        "run_storage": _postgres("run_storage", "PostgresRunStorage", database),
        "event_log_storage": _postgres("event_log", "PostgresEventLogStorage", database),
        "run_launcher": {
            "module": "dagster_k8s",
            "class": "K8sRunLauncher",
            "config": {
                "load_incluster_config": launcher.load_incluster_config,
                "job_namespace": namespace,
                "image_pull_policy": launcher.image_pull_policy,
                "service_account_name": values.service_account.name,
                "dagster_home": values.global_.dagster_home,
                "instance_config_map": INSTANCE_CONFIG_MAP,
                "postgres_password_secret": values.global_.postgresql_secret_name,
                "env_config_maps": [named.name for named in launcher.env_config_maps],
                "env_secrets": [named.name for named in launcher.env_secrets],
                "volumes": launcher.volumes,
                "volume_mounts": launcher.volume_mounts,
                "resources": launcher.resources,
                "security_context": launcher.security_context,
                "run_k8s_config": launcher.run_k8s_config.model_dump(),
            },
        },
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": "QueuedRunCoordinator",
            "config": daemon.run_coordinator.config["queuedRunCoordinator"].model_dump(),
        },
        "compute_logs": {
            "module": "dagster_aws.s3.compute_log_manager",
            "class": "S3ComputeLogManager",
            "config": logs.model_dump(),
        },
        "run_monitoring": daemon.run_monitoring.model_dump(),
        "run_retries": daemon.run_retries.model_dump(),
        "sensors": daemon.sensors.model_dump(),
        "schedules": daemon.schedules.model_dump(),
        "concurrency": values.concurrency.model_dump(include={"runs", "pools"}),
        "retention": values.retention.model_dump(include={"schedule", "sensor"}),
        "telemetry": values.telemetry,
    }


def pods(values: Values) -> dict[str, dict[str, Any]]:
    """Return the pods of webserver, daemon and code locations, as far as our values determine them.

    The chart mounts dagster.yaml and the workspace beside what is mounted here.
    """
    location = values.dagster_user_deployments
    parts: dict[str, Pod] = {
        "webserver": values.dagster_webserver,
        "daemon": values.dagster_daemon,
        **{f"code location {each.name}": each for each in location.deployments},
    }
    return {name: _pod(part) for name, part in parts.items()}


def _pod(part: Pod) -> dict[str, Any]:
    container = {
        "name": "dagster",
        "securityContext": part.security_context,
        "resources": part.resources,
        "volumeMounts": part.volume_mounts,
    }
    return {
        "securityContext": part.pod_security_context,
        "containers": [container],
        "volumes": part.volumes,
    }


def _postgres(module: str, name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": f"dagster_postgres.{module}", "class": name, "config": config}
