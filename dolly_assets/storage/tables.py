"""Tables in files whose content nobody vouches for: Parquet and Arrow IPC."""

from pathlib import Path
from typing import TYPE_CHECKING

from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa

ERROR_LENGTH = 200  # of what Arrow says


def open_table(file: Path, name: str) -> "pa.Table":
    """Return the table in a file, memory-mapped if it is Arrow IPC.

    Args:
        file: The file on this machine.
        name: What the error calls it.

    Raises:
        ArtifactError: The file is of neither format, or its content is not what it says.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.open("rb") as opened:
        magic = opened.read(6)
    try:
        if magic.startswith(b"PAR1"):
            table = pq.ParquetFile(file, memory_map=True).read()
        else:
            open_ipc = pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream
            table = open_ipc(pa.memory_map(str(file))).read_all()
        # Arrow trusts offsets and text, and would read memory that is none of the table's.
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise ArtifactError(
            f"{name} is neither Parquet nor Arrow IPC: {one_line(error, ERROR_LENGTH)}"
        ) from error
    return table
