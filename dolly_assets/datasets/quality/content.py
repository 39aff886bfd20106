"""Whether there is anything to learn from: the columns, empty texts, and lengths far from all others."""

import numpy as np
import pyarrow as pa

from dolly_assets.datasets.quality.finding import Example, Finding, excerpt, finding
from dolly_assets.datasets.quality.records import Records, kernels
from dolly_assets.datasets.schema import SCHEMA

NO_VISIBLE_CHARACTER = r"^[\p{Z}\p{C}]*$"  # white space, control characters, zero-width ones
# J. Tukey, "Exploratory Data Analysis" (1977): "far out" is beyond three interquartile ranges; here of the logarithms.
FAR_OUT = 3.0
LEAST_SPREAD = 0.25  # of an interquartile range: lengths within a factor of about two are never far out


def schema(table: pa.Table) -> Finding:
    """Columns, types, nulls and valid UTF-8; and that there is a record."""
    problems = []
    if table.num_rows == 0:
        problems.append(Example(record=0, kind="no records", excerpt="a dataset needs at least one"))
    for field in SCHEMA:
        if field.name not in table.column_names:
            problems.append(Example(record=0, kind=f"no column {field.name}", excerpt=", ".join(table.column_names)))
        elif table.schema.field(field.name).type != field.type:
            found = str(table.schema.field(field.name).type)
            problems.append(Example(record=0, kind=f"{field.name} is no string", excerpt=found))
        else:
            nulls = np.flatnonzero(kernels.is_null(table[field.name]).to_numpy())
            problems += [Example(record=int(row), kind=f"no {field.name}", excerpt="null") for row in nulls]
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        problems.append(Example(record=0, kind="damaged", excerpt=excerpt(str(error))))
    return finding("schema", table.num_rows, problems)


def empty(records: Records) -> Finding:
    """Instructions and responses that show nothing."""
    hits = (
        Example(record=record, kind=f"empty {name}", excerpt=excerpt(text))
        for batch in records.batches()
        for name in ("instruction", "response")
        for record, text in batch.matching(getattr(batch, name), NO_VISIBLE_CHARACTER)
    )
    return finding("empty", len(records), hits)


def length_outliers(records: Records) -> Finding:
    """Texts whose length in characters is far from that of all others, on a logarithmic scale."""
    hits = []
    for name in ("instruction", "context", "response"):
        lengths = [kernels.utf8_length(getattr(batch, name)).to_numpy() for batch in records.batches()]
        characters = np.concatenate([*lengths, np.empty(0, dtype=np.int64)])
        for record in np.flatnonzero(_far_out(characters)).tolist():
            what = "long" if characters[record] > np.median(characters[characters > 0]) else "short"
            hits.append(Example(record=record, kind=f"{what} {name}", excerpt=f"{characters[record]:,} characters"))
    return finding("length_outliers", len(records), hits)


def _far_out(characters: np.ndarray) -> np.ndarray:
    """Empty texts apart: a context may be."""
    filled = characters > 0
    if not filled.any():
        return filled
    scale = np.log1p(characters)
    low, high = np.percentile(scale[filled], [25, 75])
    reach = FAR_OUT * max(high - low, LEAST_SPREAD)
    return filled & ((scale < low - reach) | (scale > high + reach))
