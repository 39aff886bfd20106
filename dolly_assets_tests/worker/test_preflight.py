"""The preflight on this machine's ranks, and each of its refusals, as far as possible for real."""

import json
import os
import socket
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.core.errors import ArtifactError, TrainingError
from dolly_assets.worker.messages import Log
from dolly_assets.worker.preflight import PREFLIGHT_FILE, check_architecture, preflight
from dolly_assets.worker.profiles.profile_publisher import profile_dir
from dolly_assets_tests.tiny_training import Recorded, Workbench


def fly(
    workbench: Workbench, scratch: Path, variables: dict[str, str], **changes: Any
) -> tuple[dict[str, Any] | None, list[str]]:
    """What a rank measures and logs."""
    os.environ.update(variables)
    spec = workbench.spec(workbench.train(0, 1), scratch).model_copy(update=changes)
    recorded = Recorded()
    preflight(spec, workbench.latest("base_model"), recorded.messenger)
    file = profile_dir(spec) / PREFLIGHT_FILE
    found = json.loads(file.read_text()) if file.exists() else None
    return found, [message.text for message in recorded.messages if isinstance(message, Log)]


def test_one_rank_measures_what_one_rank_can(workbench: Workbench, tmp_path: Path) -> None:
    found, lines = fly(workbench, tmp_path, {})
    assert found
    assert found["ranks"] == 1
    assert found["allreduce_bytes_per_second"] is None
    assert found["matmul_flops"] > 1e8
    assert found["clock_skew_seconds"] == 0
    assert found["disk_free_bytes"] > found["disk_needed_bytes"] > 0
    assert "all-reduce" not in lines[0]
    assert not list((workbench.folder / "store").glob("preflight/*"))


@pytest.mark.slow
def test_two_ranks_measure_what_is_between_them(workbench: Workbench, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        ranks = [
            pool.submit(
                fly, workbench, tmp_path, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            )
            for rank in (0, 1)
        ]
        (found, lines), _ = (rank.result(timeout=120) for rank in ranks)
    assert found
    assert found["ranks"] == 2
    assert found["allreduce_bytes_per_second"] > 1e6
    assert "GB/s among 2 ranks" in lines[0]


def test_gpus_that_are_not_there_are_missed(workbench: Workbench, tmp_path: Path) -> None:
    compute = workbench.family.compute.model_copy(update={"gpus": 1})
    with pytest.raises(
        TrainingError, match=r"the plan is for 1 GPUs and torch .* sees 0: check nvidia-smi"
    ):
        fly(
            workbench, tmp_path, {}, family=workbench.family.model_copy(update={"compute": compute})
        )


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((8, 0), ["sm_75", "sm_80", "sm_90"], True),
        ((8, 6), ["sm_80"], True),  # a newer minor version
        ((7, 0), ["sm_75", "sm_80", "sm_90", "sm_100", "sm_120"], False),  # V100, CUDA 13
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_80", "sm_90"], False),
        ((10, 0), ["sm_80", "compute_90"], True),  # compiled by the driver
        ((12, 1), ["sm_120"], True),
        ((8, 0), [], False),
    ],
)
def test_a_gpu_that_torch_has_no_code_for_is_named(
    capability: tuple[int, int], built_for: list[str], runs: bool
) -> None:
    if runs:
        check_architecture("Tesla V100", capability, built_for)
        return
    with pytest.raises(TrainingError, match=r"no code for Tesla V100 .*install a build of torch"):
        check_architecture("Tesla V100", capability, built_for)


def test_a_store_that_cannot_be_written_is_refused(workbench: Workbench, tmp_path: Path) -> None:
    blocked = tmp_path / "store"
    blocked.mkdir()
    (blocked / "preflight").write_text("in the way")
    with pytest.raises(ArtifactError, match="preflight"):
        fly(workbench, tmp_path / "scratch", {}, store_url=str(blocked))


def test_a_disk_without_room_for_the_checkpoints_is_refused(
    workbench: Workbench, tmp_path: Path
) -> None:
    from dolly_assets.worker.preflight import _check_disk

    with pytest.raises(TrainingError, match=r"the plan needs .* TB of disk .* set DOLLY_HOME"):
        _check_disk(tmp_path, 1 << 60)
