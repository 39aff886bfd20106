"""The checks by name: what each finds, and the shares above which it warns or stops training.

How a defect is found is the business of the other modules.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from pydantic import Field

from dolly_assets.core.base import Config

CheckName = Literal[
    "schema",
    "empty",
    "turns",
    "exact_duplicates",
    "near_duplicates",
    "prompt_markers",
    "encoding",
    "language",
    "known_bad_answers",
    "length_outliers",
    "personal_data",
    "equal_answers",
    "contradictions",
    "one_sided",
    "leakage_exact",
    "leakage_near",
    "over_long",
    "evaluation_prompts",
]


class Limits(Config):
    """How much a check tolerates, as shares of what it checked."""

    warn_above: float = Field(
        default=0, ge=0, le=1, description="Share above which the check warns; 1 means never."
    )
    stop_above: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share above which the check stops training; null means never.",
    )


class Check(NamedTuple):
    """A check in words, with its default limits.

    Attributes:
        finds: What is wrong with the records that it finds, to follow their number.
        limits: The limits where a dataset sets none.
        of: What it checks.
    """

    finds: str
    limits: Limits
    of: str = "records"


STOPS = Limits(stop_above=0)
WARNS = Limits()
CHECKS: dict[CheckName, Check] = {
    "schema": Check("are not as they are stored, or there are no records", STOPS),
    "empty": Check("have an instruction, a response or a turn without a visible character", STOPS),
    "turns": Check("have turns that do not fit together", WARNS),
    "exact_duplicates": Check("repeat an earlier record", WARNS),
    "near_duplicates": Check("are nearly the same as an earlier record", WARNS),
    "prompt_markers": Check("contain a marker of a prompt format", Limits(stop_above=0.01)),
    "encoding": Check(
        "contain wrongly decoded text or control characters", Limits(stop_above=0.05)
    ),
    "language": Check("answer in another language than most, without being asked to", WARNS),
    "known_bad_answers": Check(
        "are of a kind known to be bad in generated data", Limits(stop_above=0.1), "answers"
    ),
    "length_outliers": Check("are far longer than the rest", WARNS),
    "personal_data": Check("seem to contain personal data", WARNS),
    "equal_answers": Check("prefer an answer to an equal one", WARNS, "preferences"),
    "contradictions": Check("contradict an earlier one on the same answers", WARNS, "preferences"),
    "one_sided": Check(
        "prefer a model or a side that nearly all prefer, whatever the answers",
        WARNS,
        "preferences",
    ),
    "leakage_exact": Check(
        "have a prompt that is also in the training data", STOPS, "held-out records"
    ),
    "leakage_near": Check("are nearly the same as a training record", WARNS, "held-out records"),
    "over_long": Check(
        "are left out: longer than the family's max_length, or refused by its template",
        Limits(stop_above=0.5),
    ),
    "evaluation_prompts": Check(
        "occur in the dataset, word for word or nearly", WARNS, "evaluation prompts"
    ),
}


def limits_of(name: CheckName, of_dataset: Mapping[CheckName, Limits]) -> Limits:
    """Return the limits of a check: its defaults, overridden by those of the dataset."""
    own = of_dataset.get(name)
    default = CHECKS[name].limits
    return default.model_copy(update=own.model_dump(exclude_unset=True)) if own else default
