"""Resuming on another number of ranks, through DeepSpeed's universal checkpoint.

It holds the state of every parameter, whole. What is sharded differently is summed in another
order: the loss continues within rounding, and not bit for bit.
"""

import shutil
from pathlib import Path

from dolly_assets.training.seams import write_universal_checkpoint

# What is copied unchanged. Random numbers are not: each rank had its own.
_UNSHARDED = ("trainer_state.json", "progress.json", "example_losses.parquet", "scheduler.pt")


def convert(state: Path, into: Path) -> None:
    """Write a resume folder that any number of ranks can load. One process calls it.

    Args:
        state: A resume folder of `layout.join`.
        into: The folder to create.
    """
    tag = (state / "latest").read_text().strip()
    into.mkdir(parents=True)
    for file in (state / name for name in _UNSHARDED if (state / name).is_file()):
        shutil.copyfile(file, into / file.name)
    write_universal_checkpoint(state / tag, into / f"{tag}_universal")
