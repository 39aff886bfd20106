"""What a message of an Arrow stream expands to, computed before Arrow decompresses it.

Arrow has no limit for that: a kilobyte can hold gigabytes. Knows the layout of a message, which is
a FlatBuffer (https://arrow.apache.org/docs/format/Columnar.html), and nothing of columns. Arrow has
verified the offsets in it when it returns a message.
"""

import struct

import pyarrow as pa

# Positions of fields in the tables of Arrow's Message.fbs.
_HEADER, _DATA, _BUFFERS, _COMPRESSION = 2, 1, 2, 3
_LENGTH_BYTES = 8
"""Each compressed buffer begins with its size when decompressed; -1 means that it is not."""


def expanded_bytes(message: pa.ipc.Message) -> int:
    """Return the size of a message's body after decompression."""
    if message.type not in ("record batch", "dictionary") or message.body is None:
        return 0
    metadata, body = memoryview(message.metadata), memoryview(message.body)
    batch = _referred(metadata, _referred_root(metadata), _HEADER)
    if message.type == "dictionary":
        batch = _referred(metadata, batch, _DATA)
    if not batch or not _field(metadata, batch, _COMPRESSION):
        return len(body)
    size_bytes = 0
    for offset, length in _buffers(metadata, batch):
        if length >= _LENGTH_BYTES and 0 <= offset <= len(body) - _LENGTH_BYTES:
            (stated,) = struct.unpack_from("<q", body, offset)
            size_bytes += length if stated < 0 else stated
    return size_bytes


def _buffers(metadata: memoryview, batch: int) -> list[tuple[int, int]]:
    """Return offset and length in the body of each buffer of a batch."""
    vector = _referred(metadata, batch, _BUFFERS)
    if not vector:
        return []
    (count,) = struct.unpack_from("<I", metadata, vector)
    places = metadata[vector + 4 : vector + 4 + 16 * count]
    return list(struct.iter_unpack("<qq", places))


def _referred_root(metadata: memoryview) -> int:
    return struct.unpack_from("<I", metadata)[0]


def _referred(metadata: memoryview, table: int, field: int) -> int:
    """Return the position of what a field of a table refers to, or 0 if it has none."""
    place = _field(metadata, table, field) if table else 0
    return place + struct.unpack_from("<I", metadata, place)[0] if place else 0


def _field(metadata: memoryview, table: int, field: int) -> int:
    """Return the position of a field of a table, or 0 if the table does not have it."""
    fields = table - struct.unpack_from("<i", metadata, table)[0]
    (fields_bytes,) = struct.unpack_from("<H", metadata, fields)
    slot = 4 + 2 * field
    if slot >= fields_bytes:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, fields + slot)
    return table + offset if offset else 0
