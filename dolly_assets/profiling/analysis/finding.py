"""What a finding is, and the limits from which on a measurement becomes one.

Imports no numbers: a family's configuration declares limits, and must load quickly.
"""

from typing import Literal

from pydantic import Field

from dolly_assets.core.base import Config

Check = Literal["gpu_idle", "thermal_throttling", "gpu_errors", "memory_nearly_full", "straggler"]


class ProfileFinding(Config):
    """One thing that stands out in a span."""

    check: Check | None = Field(description="The asset check that it belongs to, if there is one.")
    weight: float = Field(
        description="Severity: the share of the span's work that is lost, more than 1 for errors."
    )
    text: str = Field(description="What was observed, as a clause without a full stop.")
    advice: str = Field(description="What to do about it, as a sentence.")


class ProfileLimits(Config):
    """Limits of the findings, and so of the asset checks of `gpu_profile`."""

    idle_percent: float = Field(
        default=10,
        gt=0,
        le=100,
        description="A GPU that is idle for at least this percentage of the time is a finding.",
    )
    thermal_percent: float = Field(
        default=1,
        gt=0,
        le=100,
        description="A GPU that heat throttles for at least this percentage of the time is a "
        "finding.",
    )
    memory_percent: float = Field(
        default=95,
        gt=0,
        le=100,
        description="A memory whose peak reaches this percentage of its size is a finding.",
    )
    straggler_percent: float = Field(
        default=5,
        gt=0,
        le=100,
        description="A rank that takes this percentage of a step longer than the median rank is a "
        "finding.",
    )
