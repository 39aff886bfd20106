"""Rows of Arrow tables as records: nested columns as lists and objects, whatever their Arrow type.

An Arrow struct states every key in every row, so a key that is null is one that the source left
out. Knows types and values, and neither files nor the names of columns.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.schema import Record

OBJECT_BYTES = 64
"""What an element of a list or a struct is taken for, beside its values: Python has an object of
each, and in a file it can be a few bits."""


def is_nested(kind: pa.DataType) -> bool:
    """Whether the values of a type are lists or objects."""
    kind = _storage(kind)
    return pa.types.is_nested(kind) and not pa.types.is_union(kind)


def records_of(batches: Iterable[pa.RecordBatch], *, source: str) -> Iterator[Record]:
    """Yield the rows of batches.

    Raises:
        DatasetError: A text is not UTF-8, or an object has a key twice; the text names the record.
    """
    first = 1
    for batch in batches:
        try:
            rows = batch.to_pylist()
        except ValueError:  # a UnicodeDecodeError, too
            number, problem = next(_unreadable(batch))
            raise DatasetError(f"{source}: record {first + number}: {problem}") from None
        for row in rows:
            yield Record({name: _stated(value) for name, value in row.items()})
        first += batch.num_rows


def expanded_bytes(column: pa.Array) -> int:
    """Return the size of a column's values when each is written out, those in lists included."""
    if isinstance(column, pa.ExtensionArray):
        return expanded_bytes(column.storage)
    if isinstance(column, pa.StructArray):
        fields = [column.field(at) for at in range(column.type.num_fields)]
        return OBJECT_BYTES * len(column) + sum(map(expanded_bytes, fields))
    if isinstance(column, pa.MapArray):
        return OBJECT_BYTES * len(column) + sum(map(expanded_bytes, (column.keys, column.items)))
    if pa.types.is_nested(column.type) and hasattr(column, "flatten"):
        values = column.flatten()
        return OBJECT_BYTES * (len(column) + len(values)) + expanded_bytes(values)
    if isinstance(column, pa.DictionaryArray):
        sizes = pc.binary_length(column.dictionary).take(column.indices)  # pyright: ignore[reportAttributeAccessIssue]
        return pc.sum(sizes).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(column, pa.StringViewArray):  # values may share their bytes
        return sum(len(value.as_buffer() or b"") for value in column if value.is_valid)
    return column.nbytes


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _stated(value: object) -> object:
    """Return a value with lists for tuples, and without the keys of objects that are null."""
    if isinstance(value, dict):
        return {key: _stated(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_stated(item) for item in value]
    return value


def _unreadable(batch: pa.RecordBatch) -> Iterator[tuple[int, str]]:
    """Yield the place of each row that cannot be read, and what is wrong with it."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for place, value in enumerate(column):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                byte = f"0x{error.object[error.start]:02x}, {error.reason}"
                yield (
                    place,
                    f"the column {name!r} is not UTF-8 ({byte}); write the file again from text "
                    "in UTF-8",
                )
            except ValueError as error:
                yield place, f"the column {name!r} cannot be read: {error}"
