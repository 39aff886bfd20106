"""What a GPU-hour costs and a kilowatt-hour emits: examples in prices.yaml, and your overrides."""

import datetime
from importlib import resources
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.text import one_line
from dolly_assets.hardware.device_table import device_spec


class Prices(Config):
    """Prices as of a day."""

    as_of: datetime.date = Field(description="The day for which the prices were valid.")
    gpu_hour_usd: dict[str, float] = Field(description="US dollars per GPU-hour, by device.")
    carbon_g_per_kwh: float = Field(ge=0, description="Grams of CO2 per kilowatt-hour.")

    @classmethod
    def read(cls, file: Path | None = None) -> Self:
        """Read the bundled prices, with a YAML file of the same form merged over them.

        Raises:
            ConfigurationError: The file cannot be read, or is not of that form.
        """
        text = (
            resources.files("dolly_assets.planning")
            .joinpath("prices.yaml")
            .read_text(encoding="utf-8")
        )
        # Loaded here, since a worker without prices of its own needs no YAML.
        from dolly_assets.core.yaml_text import parse_yaml, read_start

        bundled = parse_yaml(text.encode(), "prices.yaml")
        if file is None:
            return cls.model_validate(bundled)
        own = parse_yaml(read_start(file, str(file)), str(file))
        try:
            prices = {**bundled["gpu_hour_usd"], **own.get("gpu_hour_usd", {})}
            return cls.model_validate({**bundled, **own, "gpu_hour_usd": prices})
        except (ValidationError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"{file}: expected as_of (a date), gpu_hour_usd (device: US dollars) and "
                f"carbon_g_per_kwh: {one_line(error)}"
            ) from error

    def of_gpu_hour(self, device: str) -> float | None:
        """Return the price of a GPU-hour in US dollars; None if the device has no price."""
        return next(
            (
                price
                for name, price in self.gpu_hour_usd.items()
                if _canonical(name) == _canonical(device)
            ),
            None,
        )


def _canonical(device: str) -> str:
    spec = device_spec(device)
    return spec.name if spec else device
