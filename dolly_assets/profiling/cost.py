"""What a span took: GPU-hours, energy, money and carbon, in total and per million labelled tokens.

Money and carbon are None where no price, no energy or no such token is known; a CPU's energy is not measured.
"""

from pydantic import Field

from dolly_assets.config import Config

JOULES_PER_KWH = 3.6e6


class CostFigures(Config):
    """What a span took."""

    gpu_hours: float | None = Field(description="Devices times hours, whether they worked or not; None without GPUs.")
    energy_joules: float | None = Field(description="What the GPUs' counters grew by.")
    usd: float | None
    co2_grams: float | None = Field(description="Of the GPUs' energy alone: no host, no cooling.")
    usd_per_million_labelled: float | None
    co2_grams_per_million_labelled: float | None
    joules_per_million_labelled: float | None


def cost_figures(
    gpu_count: int,
    seconds: float,
    energy_joules: float | None,
    labelled_tokens: int | None,
    gpu_hour_usd: float | None,
    carbon_g_per_kwh: float | None,
) -> CostFigures:
    """The figures of a span of so many seconds, at US dollars per GPU and hour and grams of CO2 per kilowatt-hour."""
    gpu_hours = gpu_count * seconds / 3600 if gpu_count else None
    usd = gpu_hours * gpu_hour_usd if gpu_hours and gpu_hour_usd is not None else None
    co2 = None
    if energy_joules is not None and carbon_g_per_kwh is not None:
        co2 = energy_joules / JOULES_PER_KWH * carbon_g_per_kwh

    def per_million(amount: float | None) -> float | None:
        return amount * 1e6 / labelled_tokens if amount is not None and labelled_tokens else None

    return CostFigures(
        gpu_hours=gpu_hours,
        energy_joules=energy_joules,
        usd=usd,
        co2_grams=co2,
        usd_per_million_labelled=per_million(usd),
        co2_grams_per_million_labelled=per_million(co2),
        joules_per_million_labelled=per_million(energy_joules),
    )
