"""A Trainer's checkpoint folder, split for publishing and joined for resuming.

The file names are what it writes.
"""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.checkpoint.folder import join, split

WEIGHTS = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
STATE = (
    "trainer_state.json",
    "progress.json",
    "rng_state_0.pth",
    "rng_state_1.pth",
    "scheduler.pt",
    "latest",
    "global_step10/mp_rank_00_model_states.pt",
    "global_step10/zero_pp_rank_0_mp_rank_00_optim_states.pt",
    "global_step10/zero_pp_rank_1_mp_rank_00_optim_states.pt",
)
LEFT_OUT = ("training_args.bin", "zero_to_fp32.py")


@pytest.fixture
def trainers(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint-10"
    for path in (*WEIGHTS, *STATE, *LEFT_OUT):
        write(folder / path)
    return folder


def write(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".pt":
        import torch

        torch.save({"name": file.name}, file)
    else:
        file.write_text(file.name)


def publish(trainers: Path, into: Path) -> Path:
    """Returns the published state."""
    for path, file in split(trainers).items():
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        (into / path).write_bytes(file.read_bytes())
    return into / "state"


def files(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_weights_hold_what_a_loader_reads_and_state_what_resuming_needs(trainers: Path) -> None:
    assert set(split(trainers)) == {f"weights/{path}" for path in WEIGHTS} | {
        f"state/{path}" for path in STATE
    }


def test_shards_and_an_index_are_weights(trainers: Path) -> None:
    (trainers / "model.safetensors").unlink()
    shards = (
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    )
    for name in shards:
        write(trainers / name)
    assert {f"weights/{name}" for name in shards} <= set(split(trainers))


def test_joined_it_is_the_state_in_the_trainers_folder_again(
    trainers: Path, tmp_path: Path
) -> None:
    published = publish(trainers, tmp_path / "published")
    joined = join(published, tmp_path / "joined", ranks=2)
    assert files(joined) == {path: text for path, text in files(trainers).items() if path in STATE}


def test_joining_copies_nothing(trainers: Path, tmp_path: Path) -> None:
    """A state of many gigabytes is linked; and the links can be deleted without harm to what was published."""
    published = publish(trainers, tmp_path / "published")
    before = files(published)
    joined = join(published, tmp_path / "joined", ranks=2)
    for file in joined.rglob("*"):
        if not file.is_dir():
            assert file.is_symlink()
            file.unlink()
    assert files(published) == before


@pytest.mark.parametrize("ranks", [1, 3])
def test_another_number_of_ranks_is_refused(trainers: Path, tmp_path: Path, ranks: int) -> None:
    published = publish(trainers, tmp_path / "published")
    with pytest.raises(
        TrainingError, match=f"trained on 2 ranks and cannot go on on {ranks}: use 2 again"
    ):
        join(published, tmp_path / "joined", ranks=ranks)
    assert not (tmp_path / "joined").exists()


def test_one_rank_alone_writes_a_random_state_without_a_number(
    trainers: Path, tmp_path: Path
) -> None:
    (trainers / "rng_state_0.pth").rename(trainers / "rng_state.pth")
    (trainers / "rng_state_1.pth").unlink()
    published = publish(trainers, tmp_path / "published")
    assert (join(published, tmp_path / "joined", ranks=1) / "rng_state.pth").is_file()


def test_weights_without_state_cannot_be_gone_on_from(trainers: Path, tmp_path: Path) -> None:
    (trainers / "trainer_state.json").unlink()
    with pytest.raises(TrainingError, match=r"has no trainer_state\.json"):
        join(publish(trainers, tmp_path / "published"), tmp_path / "joined", ranks=2)


class Malicious:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


def test_a_state_that_would_run_code_is_refused_before_it_is_loaded(
    trainers: Path, tmp_path: Path
) -> None:
    import torch

    optimizer = trainers / "global_step10" / "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    torch.save(Malicious(), optimizer)
    with pytest.raises(TrainingError, match=f"{optimizer.name} of the checkpoint would run code"):
        join(publish(trainers, tmp_path / "a"), tmp_path / "joined-a", ranks=2)
    optimizer.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(TrainingError, match="would run code"):
        join(publish(trainers, tmp_path / "b"), tmp_path / "joined-b", ranks=2)
