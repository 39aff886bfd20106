"""Checkpoint folders as the real Trainer and DeepSpeed write them: what is published, and resumed.

Trained are a whole model on two ranks, and an adapter on one.
"""

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dolly_assets.core.errors import TrainingError
from dolly_assets.training import lora
from dolly_assets.training.checkpoint.layout import join, left_out, split
from dolly_assets_tests.training.runs import Runs
from dolly_assets_tests.training.test_fine_tune import RECIPE, job, prepared

WEIGHTS = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
STATE = {
    "trainer_state.json",
    "rng_state_0.pth",
    "rng_state_1.pth",
    "scheduler.pt",
    "latest",
    "global_step3/mp_rank_00_model_states.pt",
    "global_step3/zero_pp_rank_0_mp_rank_00_optim_states.pt",
    "global_step3/zero_pp_rank_1_mp_rank_00_optim_states.pt",
}
ADAPTER = {
    "adapter_config.json",
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
LEFT_OUT = ["training_args.bin", "zero_to_fp32.py", "zero_to_torch.py"]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    runs = Runs()
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("weights") / "plain", dropout=0.0)


@pytest.fixture(scope="module")
def trained(runs: Runs, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after an epoch of a whole model on two ranks. Not to be written to."""
    recipe = RECIPE.model_copy(update={"micro_batch_size": 4})
    request = job(weights, tmp_path_factory.mktemp("trained"), recipe=recipe, save_seconds=0)
    outcome = runs.run(request, ranks=2)
    partly = outcome.states[2]
    partly.rename(partly.with_name("partly"))
    return request.scratch / "checkpoint-3"


@pytest.fixture(scope="module")
def trained_adapter(runs: Runs, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after an epoch of an adapter on one rank. Not to be written to."""
    recipe = RECIPE.model_copy(update={"lora": lora.LoraSettings(rank=2, alpha=4)})
    request = job(weights, tmp_path_factory.mktemp("adapter"), recipe=recipe)
    runs.run(request)
    return request.scratch / "checkpoint-3"


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained model's folder that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "checkpoint-3"))


def publish(folder: Path, into: Path) -> Path:
    """Returns the published state."""
    for path, file in split(folder).items():
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        (into / path).write_bytes(file.read_bytes())
    return into / "state"


def files(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def published_names(folder: Path, part: str) -> set[str]:
    return {path.removeprefix(f"{part}/") for path in split(folder) if path.startswith(f"{part}/")}


def test_weights_hold_what_a_loader_reads_and_state_what_resuming_needs(trained: Path) -> None:
    assert published_names(trained, "weights") == WEIGHTS
    assert published_names(trained, "state") == STATE
    assert len(split(trained)) == len(WEIGHTS | STATE)


def test_scripts_and_pickled_arguments_are_left_out_and_named(trained: Path) -> None:
    assert left_out(trained) == LEFT_OUT
    assert {path.removesuffix(".py") for path in split(trained)} == set(split(trained))


def test_of_a_state_in_the_middle_of_an_epoch_only_the_state_is_published(trained: Path) -> None:
    partly = trained.with_name("partly")
    expected = {path.replace("step3/", "step2/") for path in STATE} | {
        "progress.json",
        "example_losses.parquet",
    }
    assert set(split(partly)) == {f"state/{path}" for path in expected}
    assert set(left_out(partly)) <= set(LEFT_OUT)


def test_of_lora_the_adapter_is_published_and_merged_weights_where_they_exist(
    trained_adapter: Path, weights: Path, tmp_path: Path
) -> None:
    assert published_names(trained_adapter, "adapter") == ADAPTER
    assert published_names(trained_adapter, "weights") == set()
    assert left_out(trained_adapter) == ["README.md", *LEFT_OUT]
    merged = Path(shutil.copytree(trained_adapter, tmp_path / "merged"))
    lora.finish(merged, weights, merge=True)
    assert published_names(merged, "weights") == WEIGHTS
    assert published_names(merged, "adapter") == ADAPTER
    assert left_out(merged) == ["README.md", *LEFT_OUT]


def test_shards_their_index_and_chat_templates_are_weights(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = {"default": "{{ messages }}", "tools": "{{ tools }}"}
    tokenizer.save_pretrained(folder)
    names = published_names(folder, "weights")
    assert {
        "model-00001-of-00003.safetensors",
        "model.safetensors.index.json",
        "chat_template.jinja",
        "additional_chat_templates/tools.jinja",
    } <= names
    assert left_out(folder) == LEFT_OUT


@pytest.mark.parametrize(
    "name", ["modeling_evil.py", "pytorch_model.bin", "weights/model.safetensors", "notes.txt"]
)
def test_what_no_list_names_is_left_out(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("anything")
    assert left_out(folder) == sorted([*LEFT_OUT, name])


def test_joined_it_is_the_state_in_the_trainers_folder_again(trained: Path, tmp_path: Path) -> None:
    joined = join(publish(trained, tmp_path / "published"), tmp_path / "joined", ranks=2)
    assert files(joined) == {path: text for path, text in files(trained).items() if path in STATE}


def test_joining_copies_nothing(trained: Path, tmp_path: Path) -> None:
    """A state of many gigabytes is linked, and the links can be deleted without harm to it."""
    published = publish(trained, tmp_path / "published")
    before = files(published)
    joined = join(published, tmp_path / "joined", ranks=2)
    for file in joined.rglob("*"):
        if not file.is_dir():
            assert file.is_symlink()
            file.unlink()
    assert files(published) == before


@pytest.mark.parametrize("ranks", [1, 3])
def test_another_number_of_ranks_is_refused(trained: Path, tmp_path: Path, ranks: int) -> None:
    published = publish(trained, tmp_path / "published")
    with pytest.raises(
        TrainingError, match=f"trained on 2 ranks and cannot resume on {ranks}: use 2 again"
    ):
        join(published, tmp_path / "joined", ranks=ranks)
    assert not (tmp_path / "joined").exists()


def test_one_rank_alone_writes_a_random_state_without_a_number(
    trained_adapter: Path, tmp_path: Path
) -> None:
    published = publish(trained_adapter, tmp_path / "published")
    assert (join(published, tmp_path / "joined", ranks=1) / "rng_state.pth").is_file()


def test_weights_without_state_cannot_be_resumed_from(folder: Path, tmp_path: Path) -> None:
    (folder / "trainer_state.json").unlink()
    with pytest.raises(TrainingError, match=r"has no trainer_state\.json: expected the state/"):
        join(publish(folder, tmp_path / "published"), tmp_path / "joined", ranks=2)


class Malicious:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


def test_a_state_that_would_run_code_is_refused_before_it_is_loaded(
    folder: Path, tmp_path: Path
) -> None:
    import torch

    optimizer = folder / "global_step3" / "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    torch.save(Malicious(), optimizer)
    with pytest.raises(TrainingError, match=f"{optimizer.name} of the checkpoint would run code"):
        join(publish(folder, tmp_path / "a"), tmp_path / "joined-a", ranks=2)
    optimizer.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(TrainingError, match=r"is not a file that torch\.save writes"):
        join(publish(folder, tmp_path / "b"), tmp_path / "joined-b", ranks=2)
