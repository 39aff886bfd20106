"""The checks by name: what each finds, and how much of it warns or stops.

How it is found is the other modules'.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from pydantic import Field

from dolly_assets.core.base import Config

CheckName = Literal[
    "schema",
    "empty",
    "exact_duplicates",
    "near_duplicates",
    "prompt_markers",
    "encoding",
    "language",
    "known_bad_answers",
    "length_outliers",
    "personal_data",
    "leakage_exact",
    "leakage_near",
    "over_long",
    "evaluation_prompts",
]


class Limits(Config):
    """How much of what a check finds is borne, as shares of what it looked at."""

    warn_above: float = Field(
        default=0, ge=0, le=1, description="A larger share warns; 1 never does."
    )
    stop_above: float | None = Field(
        default=None, ge=0, le=1, description="A larger share stops training; null: none."
    )


class Check(NamedTuple):
    """A check in words, and its limits where a dataset sets none."""

    finds: str
    limits: Limits
    of: str = "records"


STOPS = Limits(stop_above=0)
WARNS = Limits()
CHECKS: dict[CheckName, Check] = {
    "schema": Check("are not four strings, or there is no record at all", STOPS),
    "empty": Check("have an instruction or a response without one visible character", STOPS),
    "exact_duplicates": Check("repeat an earlier record", WARNS),
    "near_duplicates": Check("say nearly the same as an earlier record", WARNS),
    "prompt_markers": Check("hold a marker of a prompt format", Limits(stop_above=0.01)),
    "encoding": Check("hold wrongly decoded text or control characters", Limits(stop_above=0.05)),
    "language": Check("answer in another language than most, unasked", WARNS),
    "known_bad_answers": Check(
        "are of a kind known to be bad in generated data", Limits(stop_above=0.1)
    ),
    "length_outliers": Check("are far longer than the rest", WARNS),
    "personal_data": Check("seem to hold somebody's personal data", WARNS),
    "leakage_exact": Check("have a prompt that training has too", STOPS, "held-out records"),
    "leakage_near": Check("are nearly the same as one in training", WARNS, "held-out records"),
    "over_long": Check(
        "are longer than the family's max_length, and left out", Limits(stop_above=0.5)
    ),
    "evaluation_prompts": Check(
        "occur in the dataset, word for word or nearly", WARNS, "evaluation prompts"
    ),
}


def limits_of(name: CheckName, of_dataset: Mapping[CheckName, Limits]) -> Limits:
    """The check's limits, with what the dataset says laid over them."""
    said = of_dataset.get(name)
    default = CHECKS[name].limits
    return default.model_copy(update=said.model_dump(exclude_unset=True)) if said else default
