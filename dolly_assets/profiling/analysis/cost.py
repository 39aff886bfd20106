"""What a span cost: GPU-hours, energy, money and carbon, in total and per million labelled tokens.

Money and carbon are None where the price, the energy or the number of tokens is not known; the
energy of CPUs is not measured.
"""

from collections.abc import Sequence

from pydantic import Field

from dolly_assets.core.base import Config

JOULES_PER_KWH = 3.6e6


class CostFigures(Config):
    """What a span cost."""

    gpu_hours: float | None = Field(
        description="GPUs times hours, whether they worked or not; None without GPUs."
    )
    energy_joules: float | None = Field(description="Increase of the GPUs' energy counters.")
    usd: float | None = Field(description="Price of the GPU-hours, in US dollars.")
    co2_grams: float | None = Field(
        description="Carbon dioxide of the GPUs' energy alone, without host and cooling."
    )
    usd_per_million_labelled: float | None = Field(
        description="US dollars per million labelled tokens."
    )
    co2_grams_per_million_labelled: float | None = Field(
        description="Grams of carbon dioxide per million labelled tokens."
    )
    joules_per_million_labelled: float | None = Field(
        description="Energy of the GPUs per million labelled tokens."
    )


def cost_figures(
    gpu_count: int,
    seconds: float,
    energy_joules: float | None,
    labelled_tokens: int | None,
    gpu_hour_usd: float | None,
    carbon_g_per_kwh: float | None,
) -> CostFigures:
    """Return what a span cost.

    Args:
        gpu_count: Number of GPUs, whether they worked or not.
        seconds: Length of the span.
        energy_joules: What the GPUs used; None if not measured.
        labelled_tokens: Tokens that the loss counted.
        gpu_hour_usd: Price of an hour of one GPU; None if not known.
        carbon_g_per_kwh: Grams of carbon dioxide per kilowatt-hour; None if not known.
    """
    gpu_hours = gpu_count * seconds / 3600 if gpu_count else None
    usd = gpu_hours * gpu_hour_usd if gpu_hours and gpu_hour_usd is not None else None
    co2 = None
    if energy_joules is not None and carbon_g_per_kwh is not None:
        co2 = energy_joules / JOULES_PER_KWH * carbon_g_per_kwh
    return _figures(gpu_hours, energy_joules, usd, co2, labelled_tokens)


def total_cost(costs: Sequence[CostFigures], labelled_tokens: int | None) -> CostFigures:
    """Add up several spans; a figure that one of them lacks is None, for a part is no total."""

    def total(amounts: Sequence[float | None]) -> float | None:
        known = [amount for amount in amounts if amount is not None]
        return sum(known) if known and len(known) == len(amounts) else None

    return _figures(
        total([cost.gpu_hours for cost in costs]),
        total([cost.energy_joules for cost in costs]),
        total([cost.usd for cost in costs]),
        total([cost.co2_grams for cost in costs]),
        labelled_tokens,
    )


def _figures(
    gpu_hours: float | None,
    joules: float | None,
    usd: float | None,
    co2_grams: float | None,
    labelled: int | None,
) -> CostFigures:
    def per_million(amount: float | None) -> float | None:
        return amount * 1e6 / labelled if amount is not None and labelled else None

    return CostFigures(
        gpu_hours=gpu_hours,
        energy_joules=joules,
        usd=usd,
        co2_grams=co2_grams,
        usd_per_million_labelled=per_million(usd),
        co2_grams_per_million_labelled=per_million(co2_grams),
        joules_per_million_labelled=per_million(joules),
    )
