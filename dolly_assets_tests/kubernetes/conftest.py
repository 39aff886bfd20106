"""A cluster for each test, and trainings in it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dolly_assets_tests.kubernetes.cluster import Cluster
from dolly_assets_tests.kubernetes.directed import Directed, deployed_cluster


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with deployed_cluster(tmp_path / "cluster") as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        yield cluster


@pytest.fixture
def directed(tmp_path: Path, cluster: Cluster) -> Callable[..., Directed]:
    """Creates trainings in the cluster; those of one folder share directions and the store."""
    return lambda folder=".", **options: Directed(tmp_path / folder, cluster, **options)
