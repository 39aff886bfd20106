"""Tables in files whose content nobody vouches for: Parquet and Arrow IPC."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa

ERROR_LENGTH = 200  # of what Arrow says
BATCH_ROWS = 16_384
GROUP_ROWS, GROUP_BYTES, GROUP_STEP = 2**20, 128 * 2**20, 1024
"""Most rows and bytes of text of a group of rows in Parquet, which is held in memory as a whole."""


def open_table(file: Path, name: str) -> "pa.Table":
    """Return the table in a file, memory-mapped if it is large or Arrow IPC.

    Args:
        file: The file on this machine.
        name: What the error calls it.

    Raises:
        ArtifactError: The file is of neither format, or its content is not what it says.
        DatasetError: There is no space for its content beside it.
    """
    import pyarrow as pa

    with file.open("rb") as opened:
        magic = opened.read(6)
    try:
        if magic.startswith(b"PAR1"):
            table = _read_parquet(file)
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


def write_parquet(table: "pa.Table", file: Path) -> None:
    """Write columns of text as Parquet.

    The same rows give the same bytes, whatever the chunks of the table are.
    """
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        for group in _groups(table):
            writer.write_table(group, row_group_size=GROUP_ROWS)


def _read_parquet(file: Path) -> "pa.Table":
    import pyarrow.parquet as pq

    from dolly_assets.storage.large_tables import TableWriter

    with pq.ParquetFile(file, memory_map=True) as parquet:
        written = TableWriter(parquet.schema_arrow)
        for batch in parquet.iter_batches(BATCH_ROWS):
            written.write(batch)
    return written.table()


def _groups(table: "pa.Table") -> "Iterator[pa.Table]":
    """Yield a table in groups of rows, which depend on its rows alone."""
    import pyarrow.compute as pc

    begin = group_bytes = 0
    for at in range(0, table.num_rows, GROUP_STEP):
        step = table.slice(at, GROUP_STEP)
        step_bytes = sum(pc.sum(pc.binary_length(column)).as_py() or 0 for column in step.columns)  # pyright: ignore[reportAttributeAccessIssue]
        if at > begin and (at - begin >= GROUP_ROWS or group_bytes + step_bytes > GROUP_BYTES):
            yield table.slice(begin, at - begin).combine_chunks()
            begin, group_bytes = at, 0
        group_bytes += step_bytes
    if table.num_rows > begin:
        yield table.slice(begin).combine_chunks()
