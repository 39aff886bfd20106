"""What a training state may unpickle: tensors, plain values, and a few classes of DeepSpeed.

DeepSpeed reads its files with `torch.load(…, weights_only=False)`, which runs whatever code a
pickle names, and a state comes from a store that others may write to. So the files are checked
before they are handed over, and while DeepSpeed reads, torch itself constructs nothing that is not
listed here.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dolly_assets.core.errors import TrainingError

# What DeepSpeed 0.19 pickles besides tensors and plain values.
DEEPSPEED_CLASSES = (
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
)
# Random states of numpy; transformers allows the same when it reads them.
NUMPY_CLASSES = ("numpy.dtype", "numpy.ndarray", "numpy._core.multiarray._reconstruct")


def check_pickle(file: Path, *, allow_numpy: bool = False) -> None:
    """Check that a file written by `torch.save` names only known classes, without loading it.

    Args:
        file: The file to check.
        allow_numpy: Whether the classes of numpy's random states are known, too.

    Raises:
        TrainingError: It names other classes, or torch.save did not write it.
    """
    import torch

    try:
        found = set(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception as error:  # torch and pickle raise a dozen kinds on broken files
        raise TrainingError(
            f"{file.name} of the checkpoint is not a file that torch.save writes "
            f"({type(error).__name__}): refused"
        ) from error
    allowed = {*DEEPSPEED_CLASSES, *(NUMPY_CLASSES if allow_numpy else ())}
    if unknown := found - allowed:
        raise TrainingError(
            f"{file.name} of the checkpoint would run code ({', '.join(sorted(unknown))}): refused"
        )


@contextmanager
def only_known_classes() -> Iterator[None]:
    """Make every `torch.load` in this process unpickle only what is listed here.

    That holds whatever `weights_only` its caller passes. Classes that callers have allowed by
    `torch.serialization.safe_globals` stay allowed.
    """
    import torch

    load = torch.load

    def restricted(*arguments: Any, **options: Any) -> Any:
        with torch.serialization.safe_globals([_class_of(name) for name in DEEPSPEED_CLASSES]):
            return load(*arguments, **{**options, "weights_only": True})

    torch.load = restricted
    try:
        yield
    finally:
        torch.load = load


def _class_of(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)
