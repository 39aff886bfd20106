"""The file that a training reads while it runs: memory-mapped, and so what somebody does to it would be trained on."""

from pathlib import Path

import pyarrow as pa

from dolly_assets.core.errors import TrainingError
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.fetch import is_file_intact

TRAIN_FILE = "train.arrow"


class TrainingData:
    """The training split of a tokenized dataset on this machine."""

    def __init__(self, tokenized: Artifact) -> None:
        [self._entry] = [entry for entry in tokenized.manifest.files if entry.path == TRAIN_FILE]
        self._file = tokenized.local_file(TRAIN_FILE)
        self._seen = _identity(self._file)
        self._tokenized = tokenized

    def table(self) -> pa.Table:
        """All examples, memory-mapped."""
        return self._tokenized.read_table(TRAIN_FILE)

    def refuse_changes(self, epoch: int) -> None:
        """Raises TrainingError if the file is another or has other content than when this was made."""
        is_same = self._file.is_file() and _identity(self._file) == self._seen
        if not is_same or not is_file_intact(self._file, self._entry):
            raise TrainingError(
                f"{self._file} was changed while epoch {epoch} trained on it: the epoch is not published; look for "
                "what writes there, and run again"
            )


def _identity(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
