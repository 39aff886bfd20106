"""A checkpoint as it is published: `weights/`, which any loader reads, and `state/`, for resuming.

With LoRA there is an `adapter/`, and `weights/` only if the adapter was merged into the model. The
Trainer and DeepSpeed write all of it into one folder, among files that nobody loads; `split` lists
what is published, by an allow-list, and `join` lays a published state out for resuming.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.checkpoint.unpickling import check_pickle
from dolly_assets.training.lora import ADAPTER_CONFIG, MERGED
from dolly_assets.training.weights_files import is_adapter_file, is_model_file

# All of DeepSpeed's folder belongs to the state: with NVMe offload it has folders of its own.
_STATE = re.compile(
    r"trainer_state\.json|progress\.json|example_losses\.parquet|rng_state(_\d+)?\.pth"
    r"|scheduler\.pt|scaler\.pt|latest|global_step\d+/.*"
)
_LATEST = re.compile(r"global_step\d+")


def split(checkpoint: Path) -> Mapping[str, Path]:
    """Return what is published of a Trainer's checkpoint folder: path in the artifact -> file."""
    is_adapter = (checkpoint / ADAPTER_CONFIG).is_file()
    paths = ((path, _published_path(path, is_adapter=is_adapter)) for path in _paths(checkpoint))
    return {published: checkpoint / path for path, published in paths if published}


def left_out(checkpoint: Path) -> list[str]:
    """Return the files of a Trainer's checkpoint folder that are not published, sorted.

    They are pickled arguments, copies of DeepSpeed's scripts, and the model card of peft, which
    holds a path of this machine.
    """
    published = set(split(checkpoint).values())
    return [path for path in _paths(checkpoint) if checkpoint / path not in published]


def join(state: Path, into: Path, *, ranks: int) -> Path:
    """Lay out a published `state/` as a folder that the Trainer resumes from.

    Args:
        state: The published folder, which stays as it is.
        into: The folder to create; it gets links.
        ranks: How many ranks will load it.

    Returns:
        The folder `into`.

    Raises:
        TrainingError: It holds no state, the state of another number of ranks, a pickle that would
            run code, or a file that is not part of a state.
    """
    if not (state / "trainer_state.json").is_file():
        raise TrainingError(
            f"{state} has no trainer_state.json: expected the state/ folder of a checkpoint"
        )
    check_ranks(len(list(state.glob("rng_state*.pth"))), ranks)
    files = _state_files(state)
    for path, file in files.items():
        if path.endswith((".pt", ".pth")):
            check_pickle(file, allow_numpy=path.endswith(".pth"))
    into.mkdir(parents=True)
    for path, file in files.items():
        link = into / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return into


def check_ranks(saved: int, ranks: int) -> None:
    """Raise TrainingError if a checkpoint of `saved` ranks cannot resume on `ranks`."""
    if saved != ranks:
        raise TrainingError(
            f"the checkpoint was trained on {saved} ranks and cannot resume on {ranks}: "
            f"use {saved} again"
        )


def _paths(folder: Path) -> Iterator[str]:
    """Yield the paths of all files in a folder, relative to it and sorted."""
    yield from sorted(
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
    )


def _published_path(path: str, *, is_adapter: bool) -> str | None:
    """Return where a file of the checkpoint folder is published, or None if it is left out."""
    if _STATE.fullmatch(path):
        return f"state/{path}"
    if path.startswith(f"{MERGED}/"):
        merged = path.removeprefix(f"{MERGED}/")
        return f"weights/{merged}" if is_model_file(merged) else None
    if is_adapter:
        return f"adapter/{path}" if is_adapter_file(path) else None
    return f"weights/{path}" if is_model_file(path) else None


def _state_files(state: Path) -> dict[str, Path]:
    """Return the files of a published state by their paths in it: all that loaders may open.

    Raises:
        TrainingError: A file is not one of a training state, or `latest`, which DeepSpeed follows
            to its own files, names something else than a folder of this state.
    """
    files = {
        file.relative_to(state).as_posix(): file
        for file in sorted(state.rglob("*"))
        if file.is_symlink() or not file.is_dir()
    }
    for path, file in files.items():
        if not _STATE.fullmatch(path) or file.is_symlink() or not file.is_file():
            raise TrainingError(
                f"{path} of the checkpoint is not a file of a training state: refused"
            )
    if "latest" in files:
        folder = files["latest"].read_bytes()[:100].decode(errors="replace").strip()
        has_folder = any(path.startswith(f"{folder}/") for path in files)
        if not _LATEST.fullmatch(folder) or not has_folder:
            raise TrainingError(
                f"latest of the checkpoint names {folder!r}, which is not a folder of its state: "
                "refused"
            )
    return files
