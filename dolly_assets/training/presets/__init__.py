"""Presets: named parts of a recipe that belong together, DeepSpeed's settings included.

Each is a YAML file in this folder. They know nothing of machines or models.
"""

from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.training.deepspeed.settings import DeepSpeedSettings

_FOLDER = Path(__file__).parent


class Preset(Config):
    """The part of a recipe that a preset decides."""

    description: str
    zero_stage: Literal[0, 1, 2, 3] | None = None  # None leaves it to the recipe
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    deepspeed: DeepSpeedSettings = Field(default_factory=DeepSpeedSettings)

    @property
    def decided(self) -> dict[str, Any]:
        """The recipe's own settings that the preset decides."""
        return self.model_dump(include={"zero_stage", "precision"}, exclude_none=True)


def names() -> list[str]:
    """Return the names of all presets."""
    return sorted(file.stem for file in _FOLDER.glob("*.yaml"))


@cache
def load(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        ValueError: No preset has this name.
    """
    import yaml

    if name not in names():
        raise ValueError(
            f"no preset is called {name!r}: expected DeepSpeed's settings, or one of "
            f"{', '.join(names())}"
        )
    return Preset.model_validate(
        yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    )
