"""What a worker finds in its environment, in a pod."""

import pytest

from dolly_assets.worker.pod import worker_variables


@pytest.mark.parametrize(("device", "cpus", "threads"), [("gpu", 64, "8"), ("cpu", 12, "1")])
def test_the_cores_of_a_pod_are_shared_by_its_ranks(device: str, cpus: int, threads: str) -> None:
    """Also beside GPUs, where torchrun would leave an offloaded optimizer one of them."""
    given = {
        "DOLLY_MESSAGES": "messages",
        "DOLLY_POD": "pod-0",
        "DOLLY_DEVICE": device,
        "DOLLY_CPUS": str(cpus),
        "DOLLY_RANKS": "8",
    }
    found = worker_variables(given)
    assert found["OMP_NUM_THREADS"] == threads
    assert ("DS_ACCELERATOR" in found) == (device == "cpu")
