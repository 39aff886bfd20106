"""Adapters are merged by the publisher's thread while the next epoch trains: the whole worker task.

DeepSpeed, its collectives and the store are real; each rank is a process.
"""

import os
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from dolly_assets.storage.artifact import artifact_name
from dolly_assets.training.loop.stop import StopRequest
from dolly_assets.training.process_group import rank_and_size
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.spec import Train, WorkerSpec
from dolly_assets.worker.tasks.train import train
from dolly_assets_tests.tiny_training import DATASET, Recorded, Workbench, tiny_family
from dolly_assets_tests.training import runs

pytestmark = pytest.mark.slow

LORA = {"rank": 2, "alpha": 4, "merge": True}


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with runs.processes() as pool:
        yield pool


def _train(spec: str, variables: Mapping[str, str]) -> None:
    os.environ.update(variables)
    worker = WorkerSpec[Train].model_validate_json(spec)
    messenger = Messenger(cast("object", Recorded()), rank_and_size()[0])  # pyright: ignore
    train(worker, worker.open_store(), messenger, StopRequest())


@pytest.mark.parametrize(
    ("zero_stage", "ranks"),
    [
        pytest.param(3, 1, marks=pytest.mark.long),
        (3, 2),
        pytest.param(0, 1, marks=pytest.mark.long),
        pytest.param(0, 2, marks=pytest.mark.long),
    ],
)
def test_every_epoch_has_merged_weights_whatever_is_sharded_meanwhile(
    workbench: Workbench,
    processes: ProcessPoolExecutor,
    tmp_path: Path,
    zero_stage: int,
    ranks: int,
) -> None:
    import torch

    from dolly_assets.generation.model import load

    family = tiny_family(
        held_out_examples=3, zero_stage=zero_stage, precision="bf16", lora=LORA
    ).model_copy(update={"name": f"merged_{zero_stage}_{ranks}"})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    sizes = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    futures = []
    for rank in range(ranks):
        spec = workbench.spec(workbench.train(1, 2), tmp_path / str(rank), family)
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), **common, **sizes}
        json = spec.model_dump_json()
        futures.append(processes.submit(_train, json, own if ranks > 1 else {}))
    for future in futures:
        future.result(timeout=400)  # the profile is built at a low priority
    base = workbench.latest("base_model").fetch("weights")
    for epoch in ("01", "02"):
        name = artifact_name([family.name, "model_checkpoint"], DATASET, epoch)
        checkpoint = workbench.store.latest(name)
        assert checkpoint
        merged = load(checkpoint.fetch("weights"))[0].state_dict()
        adapted = load(base, adapter=checkpoint.fetch("adapter"))[0].state_dict()
        plain = load(base)[0].state_dict()
        assert merged.keys() == adapted.keys()
        assert all(torch.equal(merged[key], adapted[key]) for key in merged)
        assert any(not torch.equal(merged[key], plain[key]) for key in merged)
