"""How this deployment uses its cluster: one YAML file, which `DOLLY_KUBERNETES` names.

It knows no family.
"""

from pathlib import Path
from typing import Self

import yaml
from pydantic import Field, JsonValue, ValidationError

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError


class KubernetesSettings(Config):
    """Where Jobs go and what holds for all of them."""

    namespace: str = Field(description="Where Jobs are made.")
    image: str = Field(description="The worker's image.")
    context: str | None = Field(
        default=None, description="Of the kubeconfig; its current one, or the pod's account."
    )
    service: str = Field(
        default="dolly-workers", description="The headless Service of pods that train together."
    )
    gpu_resource: str = Field(default="nvidia.com/gpu", description="What a GPU is called.")
    queue_minutes: float = Field(
        default=1440, gt=0, description="For all pods to run, before a Job is given up."
    )
    start_minutes: float = Field(
        default=30, gt=0, description="For a pod that has a machine to begin."
    )
    run_minutes: float | None = Field(
        default=None,
        gt=0,
        description="For a Job to run, without its waiting; no limit if left out.",
    )
    restarts: int = Field(
        default=10, ge=0, description="After disruptions, before a Job is given up."
    )
    keep_minutes: float = Field(
        default=1440, ge=0, description="That a Job which has ended stays to be looked at."
    )
    orphan_minutes: float = Field(
        default=30, ge=0, description="That a Job may run on after the end of its run."
    )
    config: dict[str, dict[str, JsonValue]] = Field(
        default={}, description="As in the tag dagster-k8s/config, for all Jobs."
    )

    @classmethod
    def read(cls, file: Path) -> Self:
        """The settings of a YAML file.

        Raises:
            ConfigurationError: It cannot be read, or a key in it is wrong.
        """
        try:
            return cls.model_validate(yaml.safe_load(file.read_text()))
        except (OSError, yaml.YAMLError) as error:
            raise ConfigurationError(
                f"DOLLY_KUBERNETES={file}: {' '.join(str(error).split())}"
            ) from error
        except ValidationError as error:
            found = "; ".join(
                f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
            )
            raise ConfigurationError(f"DOLLY_KUBERNETES={file}: {found}") from error
