"""A checkpoint as it is published: `weights/`, which any Hugging Face loader takes, and `state/`, which resuming needs.

Of LoRA there is an `adapter/`, and `weights/` only if they were merged.

The Trainer writes both into one folder; with DeepSpeed it reads only the state again.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.checkpoint.unpickling import check_pickle
from dolly_assets.training.lora import ADAPTER_CONFIG, MERGED

_STATE = re.compile(
    r"trainer_state\.json|progress\.json|rng_state.*\.pth|scheduler\.pt|scaler\.pt|latest|global_step\d+/.*"
)
_LATEST = re.compile(r"global_step\d+")
# A pickle of no use to us, a copy of DeepSpeed's code, and peft's model card, which has a path of
# this machine.
_LEFT_OUT = {"training_args.bin", "zero_to_fp32.py", "README.md"}


def split(checkpoint: Path) -> Mapping[str, Path]:
    """The published tree of a Trainer checkpoint folder: path in the artifact -> file."""
    tree: dict[str, Path] = {}
    is_adapter = (checkpoint / ADAPTER_CONFIG).is_file()
    for file in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        path = file.relative_to(checkpoint).as_posix()
        if _STATE.fullmatch(path):
            tree[f"state/{path}"] = file
        elif path.startswith(f"{MERGED}/"):
            tree[f"weights/{file.name}"] = file
        elif path not in _LEFT_OUT:
            tree[f"{'adapter' if is_adapter else 'weights'}/{path}"] = file
    return tree


def join(state: Path, into: Path, *, ranks: int) -> Path:
    """Lays a published `state/` out as a folder that the Trainer resumes from, and returns that folder.

    Raises:
        TrainingError: It holds no state, the state of another number of ranks, or a pickle that
            would run code.
    """
    if not (state / "trainer_state.json").is_file():
        raise TrainingError(f"{state} has no trainer_state.json: training cannot go on from it")
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


def _state_files(state: Path) -> dict[str, Path]:
    """The files of a published state by their paths in it, which are all that loaders may open.

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
        if not _LATEST.fullmatch(folder) or not any(
            path.startswith(f"{folder}/") for path in files
        ):
            raise TrainingError(
                f"latest of the checkpoint names {folder!r}, which is not a folder of its state: refused"
            )
    return files


def check_ranks(saved: int, ranks: int) -> None:
    """Raises TrainingError if a checkpoint of `saved` ranks cannot go on on `ranks`."""
    if saved != ranks:
        raise TrainingError(
            f"the checkpoint was trained on {saved} ranks and cannot go on on {ranks}: use {saved} again"
        )
