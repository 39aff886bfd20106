"""How epochs get into the store.

Real are the store, the sampler and the weights; the training is played by hand.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.core.errors import TrainingError
from dolly_assets.registry.training_state import Training
from dolly_assets.storage.artifact import Artifact
from dolly_assets.training.checkpoint.snapshot import Snapshot
from dolly_assets.training.checkpoint.tensors import weights_sha256
from dolly_assets.training.loop.epochs import EpochResult, PartialState
from dolly_assets.training.loop.meter import StepTotals
from dolly_assets.training.loop.steps import Step
from dolly_assets.worker.checkpoint_publisher import EpochPublisher
from dolly_assets.worker.messages import Published
from dolly_assets.worker.training_data import TrainingData
from dolly_assets_tests.tiny_training import DATASET, Recorded, Workbench

STEPS = (Step(1, 3.0, 1e-3, 0.5, 11.0), Step(2, 1.0, 2e-3, 0.25, 12.0))
WORK = StepTotals(500, 510, 300, 8e9, 0.1, 0.5, 1.0, 0.3, 0.1)
STATE = ("trainer_state.json", "rng_state.pth", "latest", "global_step2/mp_rank_00_model_states.pt")


@pytest.fixture
def base_model(workbench: Workbench) -> Artifact:
    return workbench.latest("base_model")


@pytest.fixture
def data(workbench: Workbench) -> TrainingData:
    return TrainingData(workbench.latest("tokenized_dataset", DATASET))


def ended(base_model: Artifact, folder: Path, epoch: int) -> EpochResult:
    """An epoch as the Trainer leaves it, with the base model's weights."""
    checkpoint = folder / f"checkpoint-{2 * epoch}"
    shutil.copytree(base_model.fetch("weights"), checkpoint)
    for path in (*STATE, "training_args.bin"):
        (checkpoint / path).parent.mkdir(exist_ok=True)
        (checkpoint / path).write_text(f"{path} of epoch {epoch}")
    now = time.time()
    return EpochResult(
        epoch=epoch,
        snapshot=Snapshot(checkpoint),
        started_at=now - 2.0,
        ended_at=now,
        training_seconds=2.0,
        saving_seconds=0.1,
        steps=STEPS,
        work=WORK,
        real_tokens=500,
        utilization=0.4,
    )


@pytest.fixture
def own(workbench: Workbench, tmp_path: Path) -> Workbench:
    """A workbench that a test may change, with nothing trained that others trained."""
    return Workbench(
        Path(shutil.copytree(workbench.folder, tmp_path / "workbench")), workbench.family
    )


def published(recorded: Recorded) -> list[str]:
    return [message.name for message in recorded.messages if isinstance(message, Published)]


def test_each_epoch_gives_a_profile_and_then_a_checkpoint_that_says_where_it_comes_from(
    workbench: Workbench, base_model: Artifact, data: TrainingData, tmp_path: Path
) -> None:
    recorded = Recorded()
    task = workbench.train(0, 2)
    with EpochPublisher(
        workbench.spec(task, tmp_path / "s"), workbench.store, recorded.report, base_model, data
    ) as publisher:
        publisher.on_start("process")
        results = [ended(base_model, tmp_path, epoch) for epoch in (1, 2)]
        for result in results:
            publisher.make_room()
            publisher.on_epoch(result)
    assert published(recorded) == [
        f"tiny/{asset}/{DATASET}/0{epoch}"
        for epoch in (0, 1, 2)
        for asset in ("gpu_profile", "model_checkpoint")
    ]
    base, first, second = (
        workbench.latest("model_checkpoint", DATASET, f"0{epoch}") for epoch in (0, 1, 2)
    )
    inputs = {"base_model": base_model.digest, "tokenized_dataset": task.tokenized_dataset.digest}
    assert base.manifest.inputs == inputs
    assert first.manifest.inputs == inputs
    assert second.manifest.inputs == {**inputs, "model_checkpoint": first.digest}

    digest = weights_sha256(base_model.fetch("weights"))
    assert base.manifest.attributes["weights_sha256"] == digest
    assert second.manifest.attributes == {
        "epoch": 2,
        "training": task.training,
        "ranks": 1,
        "loss": 2.0,
        "learning_rate": 2e-3,
        "grad_norm": 0.25,
        "steps": 2,
        "real_tokens": 500,
        "tokens_per_second": 250.0,
        "training_seconds": 2.0,
        "saving_seconds": 0.1,
        "processed_tokens": 510,
        "labelled_tokens": 300,
        "flops_per_second": 4e9,
        "mfu": 0.4,
        "data_seconds": 0.1,
        "forward_seconds": 0.5,
        "backward_seconds": 1.0,
        "optimizer_seconds": 0.3,
        "wait_seconds": 0.1,
        "memory_peak_bytes": None,
        "recipe": workbench.family.recipe.model_dump(mode="json"),
        "weights_sha256": digest,
    }
    assert second.manifest.made_by == {"run_id": "test"}
    paths = {entry.path for entry in second.manifest.files}
    assert {path for path in paths if path.startswith("state/")} == {
        f"state/{path}" for path in STATE
    }
    assert paths - {f"state/{path}" for path in STATE} == {
        "picture.png",
        "steps.parquet",
        *(entry.path for entry in base_model.manifest.files),
    }
    assert second.read_table("steps.parquet").to_pylist()[1] == {
        "step": 2,
        "loss": 1.0,
        "learning_rate": 2e-3,
        "grad_norm": 0.25,
        "ended_at": 12.0,
    }
    assert not any(result.snapshot.folder.exists() for result in results)

    profile = workbench.latest("gpu_profile", DATASET, "02")
    assert profile.manifest.created_at < second.manifest.created_at
    facts: dict[str, Any] = profile.manifest.attributes
    assert facts["training"] == task.training
    assert {"report.html", "picture.png", "samples.parquet"} <= {
        entry.path for entry in profile.manifest.files
    }
    assert facts["duration_seconds"] > 0


def test_a_range_that_goes_on_names_the_checkpoint_it_goes_on_from(
    workbench: Workbench, base_model: Artifact, data: TrainingData, tmp_path: Path
) -> None:
    task = workbench.train(3, 3, resume_from=base_model)
    spec = workbench.spec(task, tmp_path / "s")
    with EpochPublisher(spec, workbench.store, Recorded().report, base_model, data) as publisher:
        publisher.on_start("process")
        publisher.on_epoch(ended(base_model, tmp_path, 3))
    third = workbench.latest("model_checkpoint", DATASET, "03")
    assert third.manifest.inputs["model_checkpoint"] == base_model.digest
    assert workbench.store.latest(f"tiny/model_checkpoint/{DATASET}/04") is None


def test_an_epoch_that_ended_is_published_though_the_next_one_fails(
    workbench: Workbench, base_model: Artifact, data: TrainingData, tmp_path: Path
) -> None:
    recorded = Recorded()
    spec = workbench.spec(workbench.train(1, 2), tmp_path / "s")

    def train() -> None:
        with EpochPublisher(spec, workbench.store, recorded.report, base_model, data) as publisher:
            publisher.on_start("process")
            publisher.on_epoch(ended(base_model, tmp_path, 1))
            raise RuntimeError("the next epoch")

    with pytest.raises(RuntimeError, match="the next epoch"):
        train()
    assert published(recorded) == [
        f"tiny/gpu_profile/{DATASET}/01",
        f"tiny/model_checkpoint/{DATASET}/01",
    ]


def test_each_rank_uploads_its_own_files_and_rank_0_publishes_when_all_have(
    own: Workbench,
    base_model: Artifact,
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On machines of their own: no folder is shared."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    recorded = Recorded()

    def end_epoch(rank: int, result: EpochResult) -> None:
        monkeypatch.setenv("RANK", str(rank))
        spec = own.spec(own.train(1, 1), tmp_path / f"s{rank}")
        with EpochPublisher(spec, own.store, recorded.report, base_model, data) as publisher:
            publisher.on_start("process")
            publisher.on_epoch(result)

    second = ended(base_model, tmp_path / "1", 1)
    shutil.rmtree(second.snapshot.folder)
    shard = second.snapshot.folder / "global_step2" / "zero_pp_rank_1_mp_rank_00_optim_states.pt"
    shard.parent.mkdir(parents=True)
    shard.write_text("of rank 1")
    end_epoch(1, second)
    assert recorded.messages == []
    assert not shard.exists()
    assert not (tmp_path / "s1" / "profile" / "sampler.log").exists()
    end_epoch(0, ended(base_model, tmp_path / "0", 1))
    assert published(recorded) == [
        f"tiny/gpu_profile/{DATASET}/01",
        f"tiny/model_checkpoint/{DATASET}/01",
    ]
    checkpoint = own.latest("model_checkpoint", DATASET, "01")
    assert {entry.path for entry in checkpoint.manifest.files} > {
        f"state/global_step2/{shard.name}",
        "state/latest",
    }
    assert checkpoint.local_file(f"state/global_step2/{shard.name}").read_text() == "of rank 1"


def test_an_epoch_whose_data_was_changed_under_it_is_not_published(
    own: Workbench, base_model: Artifact, tmp_path: Path
) -> None:
    data = TrainingData(own.latest("tokenized_dataset", DATASET))
    recorded = Recorded()

    def train() -> None:
        spec = own.spec(own.train(1, 1), tmp_path / "s")
        with EpochPublisher(spec, own.store, recorded.report, base_model, data) as publisher:
            publisher.on_start("process")
            for file in (own.folder / "cache").rglob("*train.arrow"):
                content = bytearray(file.read_bytes())
                content[len(content) // 2] ^= 1
                file.chmod(0o644)
                file.write_bytes(content)
            publisher.on_epoch(ended(base_model, tmp_path, 1))

    with pytest.raises(
        TrainingError,
        match=r"train\.arrow was changed while epoch 1 trained on it: the epoch is not",
    ):
        train()
    assert published(recorded) == []


def test_a_state_in_the_middle_of_an_epoch_is_published_for_the_next_run_to_find(
    own: Workbench, base_model: Artifact, data: TrainingData, tmp_path: Path
) -> None:
    task = own.train(4, 4)
    result = ended(base_model, tmp_path, 4)
    (result.snapshot.folder / "progress.json").write_text("{}")
    for file in [
        *result.snapshot.folder.glob("*.safetensors"),
        *result.snapshot.folder.glob("*token*"),
    ]:
        file.unlink()
    spec = own.spec(task, tmp_path / "s")
    with EpochPublisher(spec, own.store, Recorded().report, base_model, data) as publisher:
        publisher.on_start("process")
        publisher.on_state(PartialState(4, 2, 4, result.snapshot, 0.1))
    training = Training(own.family, DATASET, base_model, own.latest("tokenized_dataset", DATASET))
    state = training.partial_state(own.store, 4)
    assert state
    assert state.name == f"tiny/training_state/{DATASET}"
    facts = state.manifest.attributes
    assert (facts["epoch"], facts["step"], facts["steps"], facts["ranks"]) == (4, 2, 4, 1)
    assert "state/progress.json" in {entry.path for entry in state.manifest.files}
    assert training.partial_state(own.store, 3) is None
