"""All checks of a dataset, and all that a family adds to them.

Equal input gives equal findings, on any machine.
"""

from collections.abc import Sequence

import pyarrow as pa

from dolly_assets.datasets.quality.content import empty, length_outliers, schema
from dolly_assets.datasets.quality.duplicates import duplicates
from dolly_assets.datasets.quality.encoding import encoding
from dolly_assets.datasets.quality.finding import QualityFinding
from dolly_assets.datasets.quality.language import language
from dolly_assets.datasets.quality.patterns import known_bad_answers, prompt_markers
from dolly_assets.datasets.quality.personal_data import personal_data
from dolly_assets.datasets.quality.records import Records
from dolly_assets.datasets.quality.split import Split, evaluation_prompts, leakage, over_long

VERSION = 1
"""Raised when a check finds something else than before: what was found by an older version is looked for again."""


def check_dataset(table: pa.Table) -> list[QualityFinding]:
    """What is wrong with a raw dataset; of one whose schema is wrong only that."""
    columns = schema(table)
    if columns.found:
        return [columns]
    records = Records(table)
    return [
        columns,
        empty(records),
        *duplicates(records),
        prompt_markers(records),
        encoding(records),
        language(records),
        known_bad_answers(records),
        length_outliers(records),
        personal_data(records),
    ]


def check_split(
    table: pa.Table, split: Split, *, markers: Sequence[str], prompts: Sequence[tuple[str, str]]
) -> list[QualityFinding]:
    """What is wrong with a dataset as a family splits it.

    Args:
        table: The raw dataset.
        split: Numbers of its records on either side.
        markers: What stands between the parts of an example in the family's prompt style.
        prompts: Instruction and context of what every epoch is to answer.
    """
    records = Records(table)
    return [
        *leakage(records, split),
        over_long(records, split),
        prompt_markers(records, markers),
        evaluation_prompts(records, prompts),
    ]
