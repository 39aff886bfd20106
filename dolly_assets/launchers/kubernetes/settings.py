"""How this deployment uses its cluster: one YAML file, which `DOLLY_KUBERNETES` names.

It knows no family and no Job.
"""

from pathlib import Path
from typing import Self

from pydantic import Field, JsonValue

from dolly_assets.core.base import Config
from dolly_assets.core.yaml_text import read_start, read_yaml


class KubernetesSettings(Config):
    """Where Jobs are created and what applies to all of them."""

    namespace: str = Field(description="Namespace in which Jobs are created.")
    image: str = Field(description="Image of the workers.")
    context: str | None = Field(
        default=None,
        description="Context of the kubeconfig; its current one, or the pod's account, if left "
        "out.",
    )
    service: str = Field(
        default="dolly-workers",
        description="Headless Service by which pods that train together find each other.",
    )
    gpu_resource: str = Field(
        default="nvidia.com/gpu", description="Name of the resource that stands for a GPU."
    )
    queue_minutes: float = Field(
        default=1440,
        gt=0,
        description="How long a Job may wait for all of its pods to run before it is abandoned.",
    )
    start_minutes: float = Field(
        default=30,
        gt=0,
        description="How long a pod may take to start after it was scheduled.",
    )
    run_minutes: float | None = Field(
        default=None,
        gt=0,
        description="How long a Job may run, waiting excluded; no limit if left out.",
    )
    restarts: int = Field(
        default=10, ge=0, description="How often a Job restarts after disruptions."
    )
    keep_minutes: float = Field(default=1440, ge=0, description="How long finished Jobs are kept.")
    orphan_minutes: float = Field(
        default=30, ge=0, description="How long a Job may continue after the end of its run."
    )
    ui_url: str | None = Field(
        default=None,
        description="Address of Dagster's UI, for the annotation of Jobs that links to their run.",
    )
    config: dict[str, dict[str, JsonValue]] = Field(
        default={},
        description="Kubernetes configuration of all Jobs, as in the tag dagster-k8s/config.",
    )

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the settings from a YAML file.

        Raises:
            ConfigurationError: It cannot be read, or a key in it is wrong.
        """
        where = f"DOLLY_KUBERNETES={file}"
        return read_yaml(cls, read_start(file, where), where)
