"""How epochs get into the store.

Real are the store, the sampler, and the files that the Trainer and DeepSpeed wrote of an epoch; the
order of events is played by hand.
"""

import math
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dolly_assets.core.errors import TrainingError
from dolly_assets.profiling.series.steplog import STEP_SCHEMA
from dolly_assets.registry.kinds import RECORD_LOSSES_FILE
from dolly_assets.registry.training import Training
from dolly_assets.scoring.record_losses import RECORD_LOSSES_SCHEMA
from dolly_assets.storage.artifact import Artifact
from dolly_assets.training.checkpoint.snapshot import Snapshot
from dolly_assets.training.checkpoint.tensors import weights_sha256
from dolly_assets.training.loop.example_losses import EXAMPLE_LOSSES_SCHEMA
from dolly_assets.training.loop.meter import StepTotals
from dolly_assets.training.loop.observer import EpochResult, PartialState
from dolly_assets.training.loop.request import FineTuneRequest
from dolly_assets.worker.checkpoint_publisher import EpochPublisher
from dolly_assets.worker.messages import Log, Published
from dolly_assets.worker.training_data import TrainingData
from dolly_assets_tests.tiny_training import DATASET, Recorded, Workbench
from dolly_assets_tests.training.runs import Runs

pytestmark = pytest.mark.slow

STEP = {
    "epoch": 1,
    "real_tokens": 250,
    "processed_tokens": 255,
    "labelled_tokens": 150,
    "flops": 4e9,
    "data_seconds": 0.05,
    "forward_seconds": 0.25,
    "backward_seconds": 0.5,
    "optimizer_seconds": 0.15,
    "wait_seconds": 0.05,
    "peak_rank_memory_bytes": None,
}
LEARNED = (
    {"step": 1, "loss": 3.0, "learning_rate": 1e-3, "grad_norm": 0.5},
    {"step": 2, "loss": 1.0, "learning_rate": 2e-3, "grad_norm": 0.25},
)
TIMES = ({"started_at": 10.0, "ended_at": 11.0}, {"started_at": 11.0, "ended_at": 12.0})
STEPS = [{**STEP, **learned, **times} for learned, times in zip(LEARNED, TIMES, strict=True)]
LOSSES = [
    {"example": 4, "step": 1, "labelled_tokens": 2, "loss": 6.0},
    {"example": 0, "step": 2, "labelled_tokens": 3, "loss": 3.0},
]
STATE = {
    "trainer_state.json",
    "rng_state.pth",
    "scheduler.pt",
    "latest",
    "global_step3/mp_rank_00_model_states.pt",
    "global_step3/zero_pp_rank_0_mp_rank_00_optim_states.pt",
}


@pytest.fixture
def base_model(workbench: Workbench) -> Artifact:
    return workbench.latest("base_model")


@pytest.fixture
def data(workbench: Workbench) -> TrainingData:
    return TrainingData(workbench.latest("tokenized_dataset", DATASET))


@pytest.fixture(scope="module")
def trained(
    workbench: Workbench, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], list[Path]]:
    """By the number of ranks, each rank's folder after an epoch that the real Trainer trained."""

    @cache
    def train(ranks: int) -> list[Path]:
        scratch = tmp_path_factory.mktemp(f"trained-on-{ranks}")
        request = FineTuneRequest(
            recipe=workbench.family.recipe,
            weights=workbench.latest("base_model").fetch("weights"),
            train=TrainingData(workbench.latest("tokenized_dataset", DATASET)).table(),
            first_epoch=1,
            last_epoch=1,
            scratch=scratch,
        )
        with closing(Runs()) as runs:
            runs.run(request, ranks=ranks)
        return [scratch / f"checkpoint-3-rank{rank}" for rank in range(ranks)]

    return train


@pytest.fixture
def checkpoint(trained: Callable[[int], list[Path]]) -> Path:
    """The folder of the only rank."""
    return trained(1)[0]


def ended(trained: Path, folder: Path, epoch: int) -> EpochResult:
    """An epoch with the files that a rank has of it, in a folder of its own."""
    checkpoint = Path(shutil.copytree(trained, folder / f"checkpoint-{3 * epoch}"))
    steps = pa.Table.from_pylist(STEPS, schema=STEP_SCHEMA)
    now = time.time()
    return EpochResult(
        epoch=epoch,
        snapshot=Snapshot(checkpoint),
        started_at=now - 2.0,
        ended_at=now,
        training_seconds=2.0,
        saving_seconds=0.1,
        steps=steps,
        losses=pa.Table.from_pylist(LOSSES, schema=EXAMPLE_LOSSES_SCHEMA),
        work=StepTotals.of(steps),
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
    workbench: Workbench, base_model: Artifact, checkpoint: Path, data: TrainingData, tmp_path: Path
) -> None:
    recorded = Recorded()
    task = workbench.train(0, 2)
    with EpochPublisher(
        workbench.spec(task, tmp_path / "s"), workbench.store, recorded.messenger, base_model, data
    ) as publisher:
        publisher.on_start("process")
        results = [ended(checkpoint, tmp_path, epoch) for epoch in (1, 2)]
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
    inputs = {
        base_model.name: base_model.digest,
        task.tokenized_dataset.name: task.tokenized_dataset.digest,
    }
    assert base.manifest.inputs == inputs
    assert first.manifest.inputs == inputs
    assert second.manifest.inputs == {**inputs, first.name: first.digest}

    assert base.manifest.attributes["weights_sha256"] == weights_sha256(base_model.fetch("weights"))
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
        "peak_rank_memory_bytes": None,
        "recipe": workbench.family.recipe.model_dump(mode="json"),
        "weights_sha256": weights_sha256(checkpoint),
    }
    assert second.manifest.made_by == {"run_id": "test"}
    paths = {entry.path for entry in second.manifest.files}
    assert {path for path in paths if path.startswith("state/")} == {
        f"state/{path}" for path in STATE
    }
    assert paths - {f"state/{path}" for path in STATE} == {
        "picture.png",
        "steps.parquet",
        "record_losses.parquet",
        *(entry.path for entry in base_model.manifest.files),
    }
    assert second.read_table("steps.parquet").to_pylist() == STEPS
    check_losses_of_records(second, data)
    assert not any(result.snapshot.folder.exists() for result in results)

    lines = [message.text for message in recorded.messages if isinstance(message, Log)]
    assert [line for line in lines if "left out" in line] == [
        "left out of published checkpoints: training_args.bin, zero_to_fp32.py, zero_to_torch.py"
    ]

    profile = workbench.latest("gpu_profile", DATASET, "02")
    assert profile.manifest.created_at < second.manifest.created_at
    facts: dict[str, Any] = profile.manifest.attributes
    assert facts["training"] == task.training
    assert {"report.html", "picture.png", "samples.parquet"} <= {
        entry.path for entry in profile.manifest.files
    }
    assert facts["duration_seconds"] > 0


def check_losses_of_records(epoch: Artifact, data: TrainingData) -> None:
    """They describe the epoch: its digest does not depend on them."""
    records = data.table()["record"].to_pylist()
    losses = epoch.read_table(RECORD_LOSSES_FILE)
    assert losses.schema.equals(RECORD_LOSSES_SCHEMA)
    assert [tuple(line.values()) for line in losses.to_pylist()] == [
        (records[4], 1, 2, 6.0),
        (records[0], 2, 3, 3.0),
    ]
    [entry] = [each for each in epoch.manifest.files if each.path == RECORD_LOSSES_FILE]
    assert entry.is_description


@pytest.mark.parametrize("norm", [None, math.inf])
def test_a_norm_that_nobody_measured_or_that_overflowed_is_none(
    own: Workbench,
    base_model: Artifact,
    checkpoint: Path,
    data: TrainingData,
    tmp_path: Path,
    norm: float | None,
) -> None:
    steps = pa.Table.from_pylist(
        [*STEPS[:-1], {**STEPS[-1], "grad_norm": norm}], schema=STEP_SCHEMA
    )
    spec = own.spec(own.train(1, 1), tmp_path / "s")
    with EpochPublisher(spec, own.store, Recorded().messenger, base_model, data) as publisher:
        publisher.on_start("process")
        publisher.on_epoch(replace(ended(checkpoint, tmp_path, 1), steps=steps))
    published = own.latest("model_checkpoint", DATASET, "01")
    assert published.manifest.attributes["grad_norm"] is None
    assert published.read_table("steps.parquet")["grad_norm"].to_pylist() == [0.5, norm]


def test_an_epoch_that_an_earlier_version_began_has_no_table_of_losses(
    own: Workbench, base_model: Artifact, checkpoint: Path, data: TrainingData, tmp_path: Path
) -> None:
    spec = own.spec(own.train(1, 1), tmp_path / "s")
    result = ended(checkpoint, tmp_path, 1)
    with EpochPublisher(spec, own.store, Recorded().messenger, base_model, data) as publisher:
        publisher.on_start("process")
        publisher.on_epoch(replace(result, losses=result.losses.slice(1)))
    published = own.latest("model_checkpoint", DATASET, "01")
    assert published.holds("steps.parquet")
    assert not published.holds(RECORD_LOSSES_FILE)


def test_a_range_that_goes_on_names_the_checkpoint_it_goes_on_from(
    workbench: Workbench, base_model: Artifact, checkpoint: Path, data: TrainingData, tmp_path: Path
) -> None:
    task = workbench.train(3, 3, resume_from=base_model)
    spec = workbench.spec(task, tmp_path / "s")
    with EpochPublisher(spec, workbench.store, Recorded().messenger, base_model, data) as publisher:
        publisher.on_start("process")
        publisher.on_epoch(ended(checkpoint, tmp_path, 3))
    third = workbench.latest("model_checkpoint", DATASET, "03")
    assert third.manifest.inputs[base_model.name] == base_model.digest
    assert workbench.store.latest(f"tiny/model_checkpoint/{DATASET}/04") is None


def test_an_epoch_that_ended_is_published_though_the_next_one_fails(
    workbench: Workbench, base_model: Artifact, checkpoint: Path, data: TrainingData, tmp_path: Path
) -> None:
    recorded = Recorded()
    spec = workbench.spec(workbench.train(1, 2), tmp_path / "s")

    def train() -> None:
        with EpochPublisher(
            spec, workbench.store, recorded.messenger, base_model, data
        ) as publisher:
            publisher.on_start("process")
            publisher.on_epoch(ended(checkpoint, tmp_path, 1))
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
    trained: Callable[[int], list[Path]],
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
        with EpochPublisher(spec, own.store, recorded.messenger, base_model, data) as publisher:
            publisher.on_start("process")
            publisher.on_epoch(result)

    first, second = (
        ended(folder, tmp_path / str(rank), 1) for rank, folder in enumerate(trained(2))
    )
    own_state = {"rng_state_1.pth", "global_step3/zero_pp_rank_1_mp_rank_00_optim_states.pt"}
    shard = second.snapshot.folder / "global_step3" / "zero_pp_rank_1_mp_rank_00_optim_states.pt"
    content = shard.read_bytes()
    end_epoch(1, second)
    assert recorded.messages == []
    assert not shard.exists()
    assert not (tmp_path / "s1" / "profile" / "sampler.log").exists()
    end_epoch(0, first)
    assert published(recorded) == [
        f"tiny/gpu_profile/{DATASET}/01",
        f"tiny/model_checkpoint/{DATASET}/01",
    ]
    artifact = own.latest("model_checkpoint", DATASET, "01")
    paths = {entry.path for entry in artifact.manifest.files}
    assert paths > {f"state/{path}" for path in (*own_state, "latest", "rng_state_0.pth")}
    assert artifact.local_file(f"state/global_step3/{shard.name}").read_bytes() == content


def test_an_epoch_whose_data_was_changed_under_it_is_not_published(
    own: Workbench, base_model: Artifact, checkpoint: Path, tmp_path: Path
) -> None:
    data = TrainingData(own.latest("tokenized_dataset", DATASET))
    recorded = Recorded()

    def train() -> None:
        spec = own.spec(own.train(1, 1), tmp_path / "s")
        with EpochPublisher(spec, own.store, recorded.messenger, base_model, data) as publisher:
            publisher.on_start("process")
            for file in (own.folder / "cache").rglob("*train.arrow"):
                content = bytearray(file.read_bytes())
                content[len(content) // 2] ^= 1
                file.chmod(0o644)
                file.write_bytes(content)
            publisher.on_epoch(ended(checkpoint, tmp_path, 1))

    with pytest.raises(
        TrainingError,
        match=r"train\.arrow was changed while epoch 1 trained on it: the epoch is not",
    ):
        train()
    assert published(recorded) == []


def test_a_state_in_the_middle_of_an_epoch_is_published_for_the_next_run_to_find(
    own: Workbench, base_model: Artifact, checkpoint: Path, data: TrainingData, tmp_path: Path
) -> None:
    task = own.train(4, 4)
    result = ended(checkpoint, tmp_path, 4)
    (result.snapshot.folder / "progress.json").write_text("{}")
    for file in [
        *result.snapshot.folder.glob("*.safetensors"),
        *result.snapshot.folder.glob("*token*"),
    ]:
        file.unlink()
    spec = own.spec(task, tmp_path / "s")
    with EpochPublisher(spec, own.store, Recorded().messenger, base_model, data) as publisher:
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
