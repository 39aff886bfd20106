"""From where on something in a profile is worth a warning."""

from pydantic import Field

from dolly_assets.core.base import Config


class ProfileLimits(Config):
    """Limits of the findings, and so of the asset checks of `gpu_profile`."""

    idle_percent: float = Field(
        default=10, gt=0, le=100, description="Of the time that a GPU may be idle."
    )
    thermal_percent: float = Field(
        default=1, gt=0, le=100, description="Of the time that heat may slow a GPU."
    )
    memory_percent: float = Field(
        default=95, gt=0, le=100, description="How full a memory may become."
    )
    straggler_percent: float = Field(
        default=5,
        gt=0,
        le=100,
        description="Of a step that one rank may take longer than the middle one.",
    )
