"""Which records of suites a model may have seen in its training data.

Compared is what would give a record away: its prompt with the expected answer, or its text.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dolly_assets.core.text import count, with_interval
from dolly_assets.datasets.quality.overlap import overlapping
from dolly_assets.datasets.quality.records import Records
from dolly_assets.suites.records import Record
from dolly_assets.suites.results import CONTAMINATED, RESULTS_SCHEMA, Measured, measured

Contaminated = frozenset[str]
"""The ids of a suite's records that share a sequence of words with a training record."""


def contaminated(
    suites: Mapping[str, Sequence[Record]], training: Records
) -> dict[str, Contaminated]:
    """Return the contaminated records of each suite; the training data is read once."""
    texts = [
        (suite, record.id, text)
        for suite, records in suites.items()
        for record in records
        for text in _texts_of(record)
    ]
    is_shared = overlapping([text for _, _, text in texts], training)
    return {
        name: frozenset(
            record
            for (suite, record, _), shared in zip(texts, is_shared, strict=True)
            if shared and suite == name
        )
        for name in suites
    }


def marked(results: pa.Table, found: Contaminated | None) -> pa.Table:
    """Return results with the column that says whether a record is contaminated.

    Args:
        results: A table of RESULTS_SCHEMA, with or without the column.
        found: The ids of the contaminated records; None if they are not known.
    """
    values = [None if found is None else each in found for each in results["id"].to_pylist()]
    columns = [name for name in results.column_names if name != CONTAMINATED]
    column = pa.array(values, pa.bool_())
    return results.select(columns).append_column(RESULTS_SCHEMA.field(CONTAMINATED), column)


def without_contaminated(results: pa.Table) -> Measured | None:
    """Return the scores without the contaminated records; None if there are none of these."""
    kept = results.filter(pc.invert(results[CONTAMINATED]))  # pyright: ignore[reportAttributeAccessIssue]
    return None if kept.num_rows == results.num_rows else measured(kept)


def sentence(contaminated_records: int, records: int, clean: Measured | None) -> str:
    """Return in words how many records are contaminated, and the scores without them."""
    if not contaminated_records or clean is None:
        return "no record shares a sequence of words with the training data"
    shares = "share" if contaminated_records > 1 else "shares"
    text = (
        f"{contaminated_records:,} of {count(records, 'record')} {shares} a sequence of words with "
        "training records"
    )
    if clean.score.value is not None:
        score = with_interval(clean.score.value, clean.score.interval, ".3f")
        text += f"; without them the score is {score}"
    if clean.bits_per_byte.value is not None:
        bits = with_interval(clean.bits_per_byte.value, clean.bits_per_byte.interval, ".3f")
        text += f"; without them {bits} bits per byte"
    return text


def _texts_of(record: Record) -> list[str]:
    """Return what is compared: one text for each expected answer."""
    if record.scorer == "text":
        return [record.text]
    asked = record.asked.text
    if record.scorer in ("regex", "instructions") or not record.expected:
        return [asked]
    return [f"{asked}\n{answer}" for answer in record.expected]
