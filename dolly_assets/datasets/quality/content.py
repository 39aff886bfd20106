"""Whether there is anything to learn from: columns, empty texts, and lengths far above all others.

Knows columns and lengths, not what a text means.
"""

import numpy as np
import pyarrow as pa

from dolly_assets.conversations.tables import EXCHANGE_SCHEMA
from dolly_assets.datasets.quality.finding import FlaggedRecord, QualityFinding, excerpt, finding
from dolly_assets.datasets.quality.records import Records, kernels

NO_VISIBLE_CHARACTER = r"^[\p{Z}\p{C}]*$"  # white space, control characters, zero-width ones
FAR = 4  # times the 99th percentile of lengths


def schema(table: pa.Table) -> QualityFinding:
    """Check columns, types, nulls and UTF-8, and that there is a record."""
    problems = []
    if table.num_rows == 0:
        problems.append(
            FlaggedRecord(record=0, kind="no records", excerpt="a dataset needs at least one")
        )
    for field in EXCHANGE_SCHEMA:
        if field.name not in table.column_names:
            problems.append(
                FlaggedRecord(
                    record=0, kind=f"no column {field.name}", excerpt=", ".join(table.column_names)
                )
            )
        elif table.schema.field(field.name).type != field.type:
            found = str(table.schema.field(field.name).type)
            problems.append(
                FlaggedRecord(record=0, kind=f"{field.name} is not a string", excerpt=found)
            )
        else:
            nulls = np.flatnonzero(kernels.is_null(table[field.name]).to_numpy())
            problems += [
                FlaggedRecord(record=int(row), kind=f"no {field.name}", excerpt="null")
                for row in nulls
            ]
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        problems.append(FlaggedRecord(record=0, kind="damaged", excerpt=excerpt(str(error))))
    return finding("schema", table.num_rows, problems)


def empty(records: Records) -> QualityFinding:
    """Find instructions and responses without a visible character."""
    hits = (
        FlaggedRecord(record=record, kind=f"empty {name}", excerpt=excerpt(text))
        for batch in records.batches()
        for name in ("instruction", "response")
        for record, text in batch.matching(getattr(batch, name), NO_VISIBLE_CHARACTER)
    )
    return finding("empty", len(records), hits)


def length_outliers(records: Records) -> QualityFinding:
    """Find texts that are more than FAR times as long as the 99th percentile, in characters.

    Short ones are not defects: a short response may be right.
    """
    hits = []
    for name in ("instruction", "context", "response"):
        lengths = [
            kernels.utf8_length(getattr(batch, name)).to_numpy() for batch in records.batches()
        ]
        characters = np.concatenate(lengths)
        usual = np.percentile(characters[characters > 0], 99) if characters.any() else 0
        for record in np.flatnonzero(characters > FAR * usual).tolist():
            hits.append(
                FlaggedRecord(
                    record=record, kind=f"long {name}", excerpt=f"{characters[record]:,} characters"
                )
            )
    return finding("length_outliers", len(records), hits)
