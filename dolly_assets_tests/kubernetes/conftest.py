"""A cluster for each test, and trainings in it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dolly_assets_tests.kubernetes.cluster import Cluster
from dolly_assets_tests.kubernetes.directed import Directed, deployed_cluster
from dolly_assets_tests.kubernetes.real import NoCluster, RealCluster, one_at_a_time


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with deployed_cluster(tmp_path / "cluster") as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        yield cluster


@pytest.fixture(scope="module")
def real_cluster() -> Iterator[RealCluster]:
    """The cluster that `DOLLY_TEST_CLUSTER` makes, shared by a module's tests."""
    with one_at_a_time(), pytest.MonkeyPatch.context() as patch:
        try:
            cluster = RealCluster()
            patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
            cluster.start()
        except NoCluster as error:  # no root, no cgroups, a program that is not installed
            pytest.skip(f"no cluster can be made here: {error}")
        yield cluster
        cluster.close()


@pytest.fixture
def directed(tmp_path: Path, cluster: Cluster) -> Callable[..., Directed]:
    """Creates trainings in the cluster; those of one folder share directions and the store."""
    return lambda folder=".", **options: Directed(tmp_path / folder, cluster, **options)
