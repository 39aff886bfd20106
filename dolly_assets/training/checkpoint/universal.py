"""Going on on another number of ranks, through DeepSpeed's universal checkpoint: the state of every parameter, whole.

What is sharded differently is summed in another order: the loss goes on within rounding, not to the
bit.
"""

import contextlib
import io
import shutil
from argparse import Namespace
from pathlib import Path

# What goes on as it is. Random numbers do not: each rank had its own.
_UNSHARDED = ("trainer_state.json", "progress.json", "scheduler.pt")


def convert(state: Path, into: Path) -> None:
    """Writes a resume folder that any number of ranks can load, from one of `checkpoint.join`.

    One process calls it.
    """
    from deepspeed.checkpoint.ds_to_universal import main

    tag = (state / "latest").read_text().strip()
    into.mkdir(parents=True)
    for file in (state / name for name in _UNSHARDED if (state / name).is_file()):
        shutil.copyfile(file, into / file.name)
    arguments = Namespace(
        input_folder=str(state / tag),
        output_folder=str(into / f"{tag}_universal"),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main(arguments)
