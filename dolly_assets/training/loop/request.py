"""What a rank of a training is asked to do: the recipe, and folders of this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from dolly_assets.training.recipe import Recipe


@dataclass(frozen=True)
class FineTuneRequest:
    """The epochs to train. All paths are folders of this machine.

    Attributes:
        recipe: How to train.
        weights: Where the model starts from, with its tokenizer.
        train: The rows to train on, with the columns row, input_ids and prompt_length.
        first_epoch: The first epoch to train, from 1.
        last_epoch: The last one.
        scratch: Where to write; the folder may not exist yet.
        resume_from: A state: of the end of epoch first_epoch - 1, or of a step in first_epoch.
        resume_ranks: The number of ranks that saved this state, if it differs from now.
        profile_dir: Where the timings of the steps go, if anywhere.
        save_seconds: Time between saves in the middle of an epoch.
        copy_bytes: Host memory for a rank's copy of its state; None for what is free.
        special_tokens: The prompt style's; LoRA trains those that are new to the model.
        held_out: The held-out examples, if early stopping needs their loss.
        held_out_losses: The held-out losses of the epochs before first_epoch, as far as they are
            known.
        hang_seconds: How long a rank may go without a step, at least, before it counts as hung.
    """

    recipe: Recipe
    weights: Path
    train: pa.Table
    first_epoch: int
    last_epoch: int
    scratch: Path
    resume_from: Path | None = None
    resume_ranks: int | None = None
    profile_dir: Path | None = None
    save_seconds: float = 900
    copy_bytes: int | None = None
    special_tokens: tuple[str, ...] = ()
    hang_seconds: float = 600
    held_out: pa.Table | None = None
    held_out_losses: Mapping[int, float] = field(default_factory=dict)
