"""The canonical form of an example, and how a source's columns are mapped to it.

Knows column names and types, and what makes an example unusable for training. It does not know
where records come from; their reader may state the line of each.
"""

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import pyarrow as pa

from dolly_assets.conversations.tables import EXCHANGE_SCHEMA, SCHEMAS, form_of
from dolly_assets.core.errors import DatasetError, some_of
from dolly_assets.datasets.json_text import has_lone_surrogate
from dolly_assets.storage.large_tables import TableWriter

REQUIRED_COLUMNS = ("instruction", "response")

ALIASES = {
    "instruction": ("instruction", "prompt", "question"),
    "context": ("context", "input"),
    "response": ("response", "output", "completion", "answer"),
    "category": ("category",),
}
"""Names of a canonical column in sources: Dolly's, Alpaca's (`input`, `output`), common others."""

BATCH_RECORDS, BATCH_CHARACTERS = 8192, 16 * 2**20
"""How many records are converted at once, and of how many characters: so many are in memory."""
BATCH_ROWS = 1024  # of a table

MOST_NAMES_SHOWN = 20
"""Limit of the names that a message lists: a source may have a million columns."""

_KNOWN_NAMES = frozenset(name for names in ALIASES.values() for name in names)


class Record(NamedTuple):
    """A record of a source, and the line on which it starts if the source has lines."""

    values: Mapping[str, object]
    line: int | None = None


class CanonicalTable(NamedTuple):
    """A table in the canonical form, and what became of the source's columns.

    Attributes:
        table: The examples.
        dropped_columns: The columns of the source that were dropped.
        kept_columns: Canonical name -> the source's name.
        losses: What else was changed or left out, in lines.
    """

    table: pa.Table
    dropped_columns: tuple[str, ...]
    kept_columns: Mapping[str, str]
    losses: tuple[str, ...] = ()


def map_columns(names: Sequence[str], *, source: str) -> dict[str, str]:
    """Find the canonical columns among a source's column names, as `matched` does.

    Raises:
        DatasetError: A required column is missing, or two columns claim the same canonical one.
    """
    mapping = matched(names, ALIASES, source=source)
    missing = [name for name in REQUIRED_COLUMNS if name not in mapping]
    if missing:
        raise DatasetError(f"{source}: {_missing(missing, names)}")
    return mapping


def matched(
    names: Iterable[str], aliases: Mapping[str, Sequence[str]], *, source: str
) -> dict[str, str]:
    """Find columns among a source's column names.

    A name in another case or with spaces around it counts where no column has the name exactly.

    Args:
        names: The source's column names.
        aliases: Canonical name -> its names in sources.
        source: What errors call it.

    Returns:
        Canonical name -> the source's name. Columns that are absent have no entry.

    Raises:
        DatasetError: Two columns claim the same canonical one.
    """
    wanted = frozenset(name for each in aliases.values() for name in each)
    similar: dict[str, list[str]] = {}
    for name in names:
        if (as_alias := folded(name)) in wanted:
            similar.setdefault(as_alias, []).append(name)
    mapping: dict[str, str] = {}
    for canonical, known in aliases.items():
        found = [name for alias in known for name in similar.get(alias, ())]
        candidates = [name for name in found if name in known] or found
        if len(set(candidates)) > 1:
            raise DatasetError(
                f"{source}: the columns {_quoted(candidates)} could each be the {canonical!r}; "
                "rename or remove all but one"
            )
        if len(candidates) > 1:
            raise DatasetError(
                f"{source}: the column name {candidates[0]!r} occurs twice; rename or remove one"
            )
        if candidates:
            mapping[canonical] = candidates[0]
    return mapping


def canonical_from_records(records: Iterable[Record], *, source: str) -> CanonicalTable:
    """Convert records to the canonical form, as `canonical_from_table` does.

    A key that a record lacks counts as null. Only values in known columns are kept, so records may
    stream.
    """
    columns, rows = _Columns(source), TableWriter(EXCHANGE_SCHEMA)
    first = 1
    for batch in _batches(columns.kept(record) for record in records):
        mapping = columns.mapping()
        values = {
            name: [record.values.get(theirs) for record in batch]
            for name, theirs in mapping.items()
        }
        lines = [record.line for record in batch]
        rows.write(_exchanges(values, lines, first=first, source=source))
        first += len(batch)
    return _canonical(rows, columns.names, columns.found, source)


class _Columns:
    """The columns of records whose keys become known while they stream.

    Attributes:
        found: Canonical name -> the source's name.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._is_known: dict[str, bool] = {}
        self._is_new = True
        self.found: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        """All keys so far, in the order in which they were met."""
        return [*self._is_known]

    def kept(self, record: Record) -> Record:
        """Return a record with the values of known columns only."""
        values: dict[str, object] = {}
        for name, value in record.values.items():
            if name not in self._is_known:
                self._is_known[name] = is_known = folded(name) in _KNOWN_NAMES
                self._is_new |= is_known
            if self._is_known[name]:
                values[name] = value
        return Record(values, record.line)

    def mapping(self) -> dict[str, str]:
        """Return the canonical columns among the keys so far.

        Raises:
            DatasetError: A required one is missing, or two keys claim the same one.
        """
        if self._is_new:
            before, self.found = self.found, map_columns(self.names, source=self._source)
            self._is_new = False
            for name, theirs in before.items():
                if self.found[name] != theirs:
                    raise DatasetError(
                        f"{self._source}: the columns {_quoted([theirs, self.found[name]])} could "
                        f"each be the {name!r}; rename or remove one"
                    )
        return self.found


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Yield records in lists of a bounded size."""
    batch, characters = list[Record](), 0
    for record in records:
        batch.append(record)
        characters += sum(len(value) for value in record.values.values() if isinstance(value, str))
        if len(batch) == BATCH_RECORDS or characters > BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def canonical_from_table(
    table: pa.Table, *, source: str, names: Sequence[str] = ()
) -> CanonicalTable:
    """Convert a table to the canonical form: four string columns in order.

    A null context or category becomes empty.

    Args:
        table: The table, of which the mapped columns are used.
        source: What errors call it.
        names: The source's column names, where the table holds only some of the columns.

    Raises:
        DatasetError: There are no records; a column is missing or ambiguous; a value is not a
            string or not UTF-8; an instruction or a response is missing or blank. The message names
            the record, counted from 1, and its line if known.
    """
    names = names or table.column_names
    mapping = map_columns(names, source=source)
    rows, first = TableWriter(EXCHANGE_SCHEMA), 1
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        columns = {
            name: _strings(batch.column(theirs), theirs, first, source)
            for name, theirs in mapping.items()
        }
        rows.write(_exchanges(columns, [None] * batch.num_rows, first=first, source=source))
        first += batch.num_rows
    return _canonical(rows, names, mapping, source)


def content_digest(table: pa.Table) -> str:
    """Return the SHA-256 of a canonical table's rows in their order, as hexadecimal digits.

    It depends on the strings alone, not on how a file encodes, compresses or chunks them. Every
    string is hashed as its length in UTF-8 bytes (8 bytes, big-endian) and those bytes, so that
    different tables never give the same input to the hash: other forms than exchanges have a mark
    before them.
    """
    digest, form = hashlib.sha256(), form_of(table)
    schema = SCHEMAS[form]
    if form != "exchanges":
        digest.update(form.encode())
    for batch in table.select(schema.names).to_batches(max_chunksize=1024):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            for value in row:
                encoded = value.encode()
                digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def check_is_text(name: str, kind: pa.DataType, *, source: str) -> None:
    """Raise DatasetError if a column's Arrow type is neither text, in any encoding, nor null."""
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_text = pa.types.is_string(values) or pa.types.is_large_string(values)
    if is_text or pa.types.is_string_view(kind) or pa.types.is_null(kind):
        return
    raise DatasetError(
        f"{source}: the column {name!r} holds values of type {kind}; expected strings"
    )


def shown_names(names: Sequence[str]) -> str:
    """Return names, quoted, of which `MOST_NAMES_SHOWN` are listed and the others counted."""
    return some_of([*map(repr, names)], MOST_NAMES_SHOWN)


def _strings(column: pa.Array, name: str, first: int, source: str) -> list[object]:
    check_is_text(name, column.type, source=source)
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        place, problem = next(_undecodable(column))
        raise DatasetError(
            f"{source}: record {first + place}: the column {name!r} is not UTF-8 ({problem}); "
            "write the file again from text in UTF-8"
        ) from None


def _undecodable(column: pa.Array) -> Iterator[tuple[int, str]]:
    """Yield the place of each value that is not UTF-8, and what is wrong with it."""
    for place, value in enumerate(column):
        try:
            value.as_py()
        except UnicodeDecodeError as error:
            yield place, f"0x{error.object[error.start]:02x}, {error.reason}"


def _canonical(
    rows: TableWriter, names: Sequence[str], mapping: Mapping[str, str], source: str
) -> CanonicalTable:
    table = rows.table()
    if not table.num_rows:
        raise DatasetError(f"{source}: there are no records; a dataset needs at least one example")
    return CanonicalTable(table, _dropped(names, mapping), mapping)


def _exchanges(
    columns: Mapping[str, Sequence[object]],
    lines: Sequence[int | None],
    *,
    first: int,
    source: str,
) -> pa.RecordBatch:
    """Return some records in canonical columns; `first` is the number of the first one."""
    arrays = []
    for name in EXCHANGE_SCHEMA.names:
        values = columns.get(name, [None] * len(lines))
        for number, (value, line) in enumerate(zip(values, lines, strict=True), first):
            if problem := _problem(name, value):
                place = f"record {number}" if line is None else f"record {number} (line {line})"
                raise DatasetError(f"{source}: {place}: {problem}")
        arrays.append(pa.array(["" if value is None else value for value in values], pa.string()))
    return pa.RecordBatch.from_arrays(arrays, schema=EXCHANGE_SCHEMA)


def _problem(name: str, value: object) -> str | None:
    required = name in REQUIRED_COLUMNS
    if value is None:
        return f"the {name} is missing; fill it in or remove the record" if required else None
    if not isinstance(value, str):
        return f"the {name} is a value of type {type(value).__name__}; expected a string"
    if required and not value.strip():
        return f"the {name} is empty; fill it in or remove the record"
    if has_lone_surrogate(value):
        return (
            f"the {name} has half of a surrogate pair (\\ud800 to \\udfff), which is not text; "
            "correct it"
        )
    return None


def _missing(missing: Sequence[str], names: Sequence[str]) -> str:
    accepted = "; ".join(f"{name!r} (or {_quoted(ALIASES[name][1:])})" for name in missing)
    if meant := _meant(missing, names):
        hint = f"did you mean {_quoted(meant)}? Rename it"
    else:
        hint = (
            "an example needs an instruction and a response, and may have a context and a "
            "category; or it is a conversation, in a column 'messages'"
        )
    return f"no column for {accepted}; found the columns {shown_names(sorted(names))}; {hint}"


def _meant(missing: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names that resemble a missing one, among the first thousand."""
    by_folded = {folded(name): name for name in islice(names, 1000)}
    wanted = [alias for name in missing for alias in ALIASES[name]]
    close = [difflib.get_close_matches(alias, by_folded, n=1, cutoff=0.8) for alias in wanted]
    return list(dict.fromkeys(by_folded[match] for found in close for match in found))


def folded(name: str) -> str:
    """Return a column's name without its case and spaces around it."""
    return name.strip().casefold()


def _dropped(names: Sequence[str], mapping: Mapping[str, str]) -> tuple[str, ...]:
    kept = frozenset(mapping.values())
    return tuple(name for name in dict.fromkeys(names) if name not in kept)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
