"""All checks of a dataset, and those that a family adds.

Equal input gives equal findings, on any machine. Limits are applied elsewhere.
"""

from collections.abc import Sequence

import pyarrow as pa

from dolly_assets.conversations.tables import holds_conversations, holds_preferences
from dolly_assets.datasets.quality.content import empty, length_outliers, schema
from dolly_assets.datasets.quality.dialogue import empty_turns, turns
from dolly_assets.datasets.quality.duplicates import duplicates
from dolly_assets.datasets.quality.encoding import encoding
from dolly_assets.datasets.quality.finding import QualityFinding
from dolly_assets.datasets.quality.language import language
from dolly_assets.datasets.quality.patterns import (
    CONVERSATION_MARKERS,
    KNOWN_MARKERS,
    known_bad_answers,
    prompt_markers,
)
from dolly_assets.datasets.quality.personal_data import personal_data
from dolly_assets.datasets.quality.preferences import (
    Preferences,
    contradictions,
    empty_answers,
    equal_answers,
    one_sided,
)
from dolly_assets.datasets.quality.records import Records
from dolly_assets.datasets.quality.split import Split, evaluation_prompts, leakage, over_long

VERSION = 2
"""Raised when a check finds something else than before, so that stored findings are not reused."""


def check_dataset(table: pa.Table) -> list[QualityFinding]:
    """Check a raw dataset; if its schema is wrong, only that is reported."""
    columns = schema(table)
    if columns.found:
        return [columns]
    if holds_preferences(table):
        return [columns, *_check_preferences(Preferences(table))]
    records, is_chat = Records(table), holds_conversations(table)
    return [
        columns,
        empty_turns(records) if is_chat else empty(records),
        turns(records),
        *duplicates(records),
        prompt_markers(
            records, (*KNOWN_MARKERS, *CONVERSATION_MARKERS) if is_chat else KNOWN_MARKERS
        ),
        encoding(records),
        language(records),
        known_bad_answers(records),
        length_outliers(records),
        personal_data(records),
    ]


def _check_preferences(preferences: Preferences) -> list[QualityFinding]:
    records = preferences.records
    return [
        empty_answers(preferences),
        equal_answers(preferences),
        contradictions(preferences),
        one_sided(preferences),
        *duplicates(records),
        prompt_markers(records, (*KNOWN_MARKERS, *CONVERSATION_MARKERS)),
        encoding(records),
        known_bad_answers(records),
        personal_data(records),
    ]


def check_split(
    table: pa.Table, split: Split, *, markers: Sequence[str], prompts: Sequence[tuple[str, str]]
) -> list[QualityFinding]:
    """Check a dataset as a family splits it.

    Args:
        table: The raw dataset.
        split: The numbers of its records on either side.
        markers: The texts between the parts of an example in the family's prompt style.
        prompts: Instruction and context of each prompt that every epoch answers.
    """
    records = Records(table)
    return [
        *leakage(records, split),
        over_long(records, split),
        prompt_markers(records, markers),
        evaluation_prompts(records, prompts),
    ]
