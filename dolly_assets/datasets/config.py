"""What is declared about a dataset: its name, its source, and how its data is treated.

Knows neither where declarations are kept nor how a source is read.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from dolly_assets.core.base import Config
from dolly_assets.core.urls import check_no_password
from dolly_assets.datasets.quality.checks import CheckName, Limits

WEEKLY = "0 6 * * 1"
_CRON_FIELD = r"[0-9*/,a-zA-Z-]+"
Cron = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=rf"^{_CRON_FIELD}( {_CRON_FIELD}){{4}}$")
]


def _without_password(source: str) -> str:
    # Not a ValueError: Dagster shows the input of those.
    return check_no_password(source, "the source")


class DatasetConfig(Config):
    """A named source of instruction data."""

    name: str = Field(description="Name of the dataset, which is also its partition key.")
    source: Annotated[str, AfterValidator(_without_password)] = Field(
        description="Hub id, file or folder, `s3://` URL, or `builtin:demo`; `#name` behind it "
        "chooses one of several configurations."
    )
    license: str = Field(
        default="unknown", description="Licence of the data: an SPDX id or the Hub's tag."
    )
    answers: Literal["open", "exact"] = Field(
        default="open",
        description="Kind of answers; `exact` means that each question has one right answer, "
        "so that exact match is scored.",
    )
    description: str = Field(
        default="", description="What the dataset contains, for readers of the catalogue."
    )
    checks: dict[CheckName, Limits] = Field(
        default={},
        description="How much each quality check tolerates, where it differs from the default.",
    )
    schedule: Cron | None = Field(
        default=WEEKLY,
        description="When the source is checked for changes, as a cron expression in UTC; "
        "null means never.",
    )


class DatasetsAttributes(Config):
    """What the YAML of declared datasets holds under `attributes`."""

    datasets: tuple[DatasetConfig, ...] = Field(
        description="The datasets that all users know by name."
    )
