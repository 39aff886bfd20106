"""A checkpoint as it is published: `weights/`, which any Hugging Face loader takes, and `state/`, which resuming needs.

The Trainer writes both into one folder and reads both from one folder; this module splits and joins it.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from dolly_assets.errors import TrainingError

_STATE = re.compile(r"trainer_state\.json|rng_state.*\.pth|scheduler\.pt|scaler\.pt|latest|global_step\d+/.*")
_LEFT_OUT = {"training_args.bin", "zero_to_fp32.py"}  # a pickle of no use to us, and a copy of DeepSpeed's code


def split(checkpoint: Path) -> Mapping[str, Path]:
    """The published tree of a Trainer checkpoint folder: path in the artifact -> file."""
    tree: dict[str, Path] = {}
    for file in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        path = file.relative_to(checkpoint).as_posix()
        if path not in _LEFT_OUT:
            tree[f"{'state' if _STATE.fullmatch(path) else 'weights'}/{path}"] = file
    return tree


def join(published: Path, into: Path, *, ranks: int) -> Path:
    """Lays a published checkpoint out as a folder that the Trainer resumes from, and returns that folder.

    Raises:
        TrainingError: It holds no state, or the state of another number of ranks.
    """
    state = published / "state"
    if not (state / "trainer_state.json").is_file():
        raise TrainingError(f"{published} has no state/trainer_state.json: training cannot go on from it")
    saved_ranks = len(list(state.glob("rng_state*.pth")))
    if saved_ranks != ranks:
        raise TrainingError(
            f"the checkpoint was trained on {saved_ranks} ranks and cannot go on on {ranks}: use {saved_ranks} again"
        )
    into.mkdir(parents=True)
    for part in (published / "weights", state):
        for file in (path for path in part.rglob("*") if path.is_file()):
            link = into / file.relative_to(part)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    return into
