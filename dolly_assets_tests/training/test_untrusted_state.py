"""Nothing from a store runs code: states as an attacker with access to the bucket changes them.

The states are real ones of DeepSpeed, the pickles really run a command when a plain unpickler reads
them, and DeepSpeed, its universal conversion and the Trainer do the loading.
"""

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.checkpoint.layout import join, split
from dolly_assets.training.loop.request import FineTuneRequest
from dolly_assets_tests.training.runs import Runs
from dolly_assets_tests.training.test_fine_tune import RECIPE, job, prepared

pytestmark = pytest.mark.slow


class Marker:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self._path}",)


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    runs = Runs()
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def trained(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[FineTuneRequest, Path]:
    """A training of two ranks, and the state after its first epoch as it is published."""
    folder = tmp_path_factory.mktemp("trained")
    weights = prepared(folder / "weights", dropout=0.0)
    recipe = RECIPE.model_copy(update={"micro_batch_size": 2})
    training = job(weights, folder / "first", recipe=recipe, last_epoch=2, save_seconds=0)
    outcome = runs.run(training, ranks=2)
    for path, file in split(outcome.states[4]).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / path)
    return training, folder / "state"


@pytest.fixture
def state(trained: tuple[FineTuneRequest, Path], tmp_path: Path) -> Path:
    """A copy of the published state that a test may change."""
    return Path(shutil.copytree(trained[1], tmp_path / "state"))


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """The file that exists once code of the state has run."""
    path = tmp_path / "the code has run"
    marker = path.with_name("marker")
    yield marker
    assert not marker.exists(), "code of the state was run"


def save(content: Any, file: Path) -> None:
    import torch

    torch.save(content, file)


def load(file: Path) -> Any:
    """Read as DeepSpeed does."""
    import torch

    return torch.load(file, weights_only=False)


def model_states(state: Path) -> Path:
    [file] = state.rglob("mp_rank_00_model_states.pt")
    return file


def refused(state: Path, tmp_path: Path, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        join(state, tmp_path / "joined", ranks=2)
    assert not (tmp_path / "joined").exists()


def test_the_pickles_of_these_tests_would_run(tmp_path: Path) -> None:
    save({"module": Marker(tmp_path / "ran")}, tmp_path / "file.pt")
    load(tmp_path / "file.pt")
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "named", ["{outside}", "../outside", "global_step4/../../outside", "", "x"]
)
def test_a_latest_that_leads_out_of_the_state_is_refused(
    state: Path, tmp_path: Path, marker: Path, named: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    save({"module": Marker(marker)}, outside / "mp_rank_00_model_states.pt")
    (state / "latest").write_text(named.format(outside=outside))
    refused(state, tmp_path, "latest of the checkpoint names .* not a folder of its state: refused")


def test_a_latest_that_names_a_folder_that_is_not_there_is_refused(
    state: Path, tmp_path: Path
) -> None:
    (state / "latest").write_text("global_step999")
    refused(state, tmp_path, "'global_step999', which is not a folder of its state")


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "training_args.bin", "zero_to_fp32.py", "more/x.pt", "x.safetensors"],
)
def test_files_that_no_training_state_has_are_refused(
    state: Path, tmp_path: Path, name: str
) -> None:
    (state / name).parent.mkdir(exist_ok=True)
    (state / name).write_bytes(b"")
    refused(state, tmp_path, f"{name} of the checkpoint is not a file of a training state: refused")


def test_links_are_refused(state: Path, tmp_path: Path, marker: Path) -> None:
    save({"module": Marker(marker)}, tmp_path / "outside.pt")
    file = model_states(state)
    file.unlink()
    file.symlink_to(tmp_path / "outside.pt")
    refused(state, tmp_path, "is not a file of a training state: refused")


@pytest.mark.parametrize(
    "pattern",
    [
        "mp_rank_00_model_states.pt",
        "*zero_pp_rank_1_*_optim_states.pt",
        "scheduler.pt",
        "rng_state_1.pth",
    ],
)
def test_a_pickle_that_would_run_code_is_refused_in_every_file(
    state: Path, tmp_path: Path, marker: Path, pattern: str
) -> None:
    [file] = state.rglob(pattern)
    save({"module": Marker(marker)}, file)
    refused(state, tmp_path, f"{file.name} of the checkpoint would run code .*system.*: refused")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"rubbish",
        pickle.dumps({}, protocol=4),
        pickle.dumps({}, protocol=2)[:5],
    ],
)
def test_files_that_torch_does_not_write_are_refused_with_our_own_error(
    state: Path, tmp_path: Path, content: bytes
) -> None:
    model_states(state).write_bytes(content)
    refused(state, tmp_path, r"mp_rank_00_model_states\.pt of the checkpoint .*: refused")


@pytest.mark.parametrize("ranks", [2, 1])
def test_deepspeed_itself_unpickles_nothing_else_either(
    runs: Runs,
    trained: tuple[FineTuneRequest, Path],
    state: Path,
    tmp_path: Path,
    marker: Path,
    ranks: int,
) -> None:
    """The state is handed over unchecked; on one rank its universal conversion reads it first."""
    file = model_states(state)
    content = load(file)
    save({**content, "extra": Marker(marker)}, file)
    rest = replace(
        trained[0],
        first_epoch=2,
        scratch=tmp_path / "rest",
        resume_from=state,
        resume_ranks=2 if ranks == 1 else None,
    )
    with pytest.raises(Exception, match="Weights only load failed"):
        runs.run(rest, ranks=ranks)
