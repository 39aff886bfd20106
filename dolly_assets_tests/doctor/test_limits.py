"""What quotas and LimitRanges refuse, as Kubernetes would."""

from typing import Any

import pytest

from dolly_assets.core.environment import Environment
from dolly_assets.doctor.limits import over_limits, over_quota
from dolly_assets.family import ModelFamily
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.pipeline.declared import read_declared

SETTINGS = KubernetesSettings(namespace="trainings", image="worker:1")


@pytest.fixture(scope="module")
def bundled() -> dict[str, ModelFamily]:
    return read_declared(Environment.read({})).families


@pytest.fixture
def family(bundled: dict[str, ModelFamily]) -> ModelFamily:
    """8 GPUs, 64 cores and 800 GiB, on each of 2 nodes."""
    found = bundled["pythia_12b"]
    return found.model_copy(update={"compute": found.compute.model_copy(update={"nodes": 2})})


@pytest.mark.parametrize(
    ("hard", "expected"),
    [
        ({"requests.memory": "1600Gi", "requests.nvidia.com/gpu": "16", "count/jobs": "1"}, ""),
        ({"requests.memory": "1599Gi"}, "requests more memory on 2 nodes than the allowed 1599Gi"),
        ({"memory": "1Ti"}, "requests more memory on 2 nodes"),
        ({"requests.nvidia.com/gpu": "15"}, "requests more nvidia.com/gpu on 2 nodes"),
        ({"cpu": "127"}, "requests more cpu on 2 nodes"),
    ],
)
def test_a_quota_holds_all_nodes(family: ModelFamily, hard: dict[str, str], expected: str) -> None:
    found = over_quota(family, SETTINGS, hard)
    assert expected in found
    assert bool(expected) == bool(found)


def test_a_quota_holds_trainings_at_once(family: ModelFamily) -> None:
    hard = {"requests.cpu": "256"}
    assert not over_quota(family, SETTINGS, hard, at_once=2)
    assert "more cpu in 3 trainings on 2 nodes" in over_quota(family, SETTINGS, hard, at_once=3)


def test_what_the_deployment_configures_counts(family: ModelFamily) -> None:
    resources = {"requests": {"memory": "10Gi"}, "limits": {"memory": "10Gi"}}
    settings = SETTINGS.model_copy(
        update={"config": {"container_config": {"resources": resources}}}
    )
    assert not over_quota(family, settings, {"requests.memory": "20Gi"})


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ({"default": {"ephemeral-storage": "10Gi"}}, "more than the default limit of 10Gi"),
        ({"default": {"ephemeral-storage": "100Gi"}}, ""),
        ({"default": {"memory": "1Gi"}, "defaultRequest": {"memory": "1Gi"}}, ""),
        ({"max": {"memory": "800Gi"}}, ""),
        ({"max": {"memory": "799Gi"}}, "asks for 819200Mi of memory, more than the most, 799Gi"),
        ({"max": {"cpu": "63"}}, "asks for 64 of cpu, more than the most, 63"),
        ({"min": {"cpu": "65"}}, "asks for 64 of cpu, less than the least, 65"),
        ({"type": "Pod", "max": {"cpu": "63"}}, "more than the most"),
        ({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}, ""),
    ],
)
def test_a_limit_range_holds_each_pod(
    family: ModelFamily, limit: dict[str, Any], expected: str
) -> None:
    storage = {"container_config": {"resources": {"requests": {"ephemeral-storage": "100Gi"}}}}
    settings = SETTINGS.model_copy(update={"config": storage})
    found = " ".join(over_limits(family, settings, [{"type": "Container", **limit}]))
    assert expected in found
    assert bool(expected) == bool(found)
