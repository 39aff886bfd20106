"""An append-only file of JSON lines that survives the death of its writer.

JSON lines, because every other format would lose more: each record is one `write` to a file opened
for appending, so a killed writer tears at most its last line; there is no footer or index to finish
(Parquet), no column order to fix when a new reading appears (CSV), and `tail -f` shows a training
as it runs. Records are in the page cache once written: they outlive the process, not a
power cut.

Knows nothing of what the records mean.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic_core import from_json


class Journal:
    """The writing end. Several processes may append to one file: a record is a single write."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        if _ends_torn(path):
            self._file.write(b"\n")  # a killed writer's last line must not swallow our first

    def append(self, record: dict[str, Any]) -> None:
        """Write one record. Values that JSON cannot represent are written as text.

        Raises:
            OSError: The file cannot be written, as on a full disk.
        """
        line = json.dumps(record, separators=(",", ":"), default=str) + "\n"
        self._file.write(line.encode())


def _ends_torn(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if not size:
            return False
        file.seek(size - 1)
        return file.read(1) != b"\n"


def read_journal(
    path: Path, wanted: Callable[[bytes], bool] = lambda line: True
) -> Iterator[dict[str, Any]]:
    """Yield the records in order.

    A missing file has none; lines that are not JSON objects (torn) are skipped.

    Args:
        path: The journal.
        wanted: A cheap test of the raw line that decides whether it is worth parsing.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in filter(wanted, file):
            try:
                record = from_json(line)  # refuses deep nesting, which json cannot read
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record
