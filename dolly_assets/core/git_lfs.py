"""Git LFS pointers: three lines that stand for a file in a clone made without Git LFS."""

import re
from pathlib import Path

MOST_BYTES = 1024  # the specification's limit of a pointer
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n.*?^size (\d+)$", re.S | re.M
)


def pointer_problem(path: Path) -> str | None:
    """Return what is wrong with a file that is a pointer and what to do, or None if it is not.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        pointer = _POINTER.match(file.read(MOST_BYTES))
    if not pointer:
        return None
    return (
        f"a Git LFS pointer instead of the file's {int(pointer[1]):,} bytes; run `git lfs pull` "
        "in the clone"
    )
