"""A checkpoint as it is published: `weights/`, which any Hugging Face loader takes, and `state/`, which resuming needs.

Of LoRA there is an `adapter/`, and `weights/` only if they were merged.

The Trainer writes both into one folder; with DeepSpeed it reads only the state again.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from dolly_assets.core.errors import TrainingError
from dolly_assets.training.lora import ADAPTER_CONFIG, MERGED

_STATE = re.compile(
    r"trainer_state\.json|progress\.json|rng_state.*\.pth|scheduler\.pt|scaler\.pt|latest|global_step\d+/.*"
)
# What DeepSpeed 0.19 pickles besides tensors and plain values.
_DEEPSPEED_GLOBALS = {
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
}
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
    for file in state.rglob("*.pt"):
        _check_pickle(file)
    into.mkdir(parents=True)
    for file in (path for path in state.rglob("*") if path.is_file()):
        link = into / file.relative_to(state)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return into


def check_ranks(saved: int, ranks: int) -> None:
    """Raises TrainingError if a checkpoint of `saved` ranks cannot go on on `ranks`."""
    if saved != ranks:
        raise TrainingError(
            f"the checkpoint was trained on {saved} ranks and cannot go on on {ranks}: use {saved} again"
        )


def _check_pickle(file: Path) -> None:
    """DeepSpeed unpickles its state without restraint; so nothing may be in it that DeepSpeed does not put there."""
    import torch

    try:
        unknown = (
            set(torch.serialization.get_unsafe_globals_in_checkpoint(file)) - _DEEPSPEED_GLOBALS
        )
    except ValueError:
        unknown = {"a pickle of its own"}
    if unknown:
        raise TrainingError(
            f"{file.name} of the checkpoint would run code ({', '.join(sorted(unknown))}): refused"
        )
