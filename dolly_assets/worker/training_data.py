"""The file that a training reads while it runs, guarded against changes.

It is memory-mapped, so that training would use whatever is written to it. What the rows mean it
doesn't know.
"""

from pathlib import Path

import pyarrow as pa

from dolly_assets.core.errors import TrainingError
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.fetch import is_file_intact
from dolly_assets.tokenization.tokenized_dataset import TRAIN_FILE


class TrainingData:
    """The training split of a tokenized dataset on this machine."""

    def __init__(self, tokenized: Artifact) -> None:
        [self._entry] = [entry for entry in tokenized.manifest.files if entry.path == TRAIN_FILE]
        self._file = tokenized.local_file(TRAIN_FILE)
        self._seen = _identity(self._file)
        self._tokenized = tokenized

    def table(self) -> pa.Table:
        """Return all examples, memory-mapped."""
        return self._tokenized.read_table(TRAIN_FILE)

    def refuse_changes(self, epoch: int) -> None:
        """Check that the file is the same, with the same content, as when this was created.

        Raises:
            TrainingError: It was replaced or changed.
        """
        is_same = self._file.is_file() and _identity(self._file) == self._seen
        if not is_same or not is_file_intact(self._file, self._entry):
            raise TrainingError(
                f"{self._file} was changed while epoch {epoch} trained on it: the epoch is not "
                "published; find out what writes there, and run again"
            )


def _identity(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
