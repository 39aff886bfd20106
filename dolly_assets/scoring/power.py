"""The smallest difference that a held-out split can show, before anything is trained."""

import math

SIGNIFICANCE = 0.05
POWER = 0.8
_DISCORDANT_SHARE = 0.5
"""Share of the examples that only one of two models answers right, if their answers are independent
and each is right half the time: the worst case."""


def smallest_share_difference(
    examples: int,
    *,
    discordant_share: float = _DISCORDANT_SHARE,
    significance: float = SIGNIFICANCE,
    power: float = POWER,
) -> float:
    """Return the smallest difference in exact match that a paired test finds with this power.

    It solves Connor's formula for McNemar's test, one-sided, for the difference d:
    n d^2 = (z_a sqrt(s) + z_b sqrt(s - d^2))^2 (https://doi.org/10.2307/2531898).

    Args:
        examples: Number of held-out examples n.
        discordant_share: Share s of the examples that only one of the two models answers right.
        significance: Largest p-value that counts as a difference.
        power: How often a difference of that size is to be found.

    Returns:
        A share from 0 to 1; 1 where even that cannot be shown.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z_a, z_b = float(norm.isf(significance)), float(norm.isf(1 - power))
    largest = math.sqrt(discordant_share)

    def missing(difference: float) -> float:
        rest = math.sqrt(max(discordant_share - difference**2, 0.0))
        return math.sqrt(examples) * difference - z_a * largest - z_b * rest

    if examples < 1 or missing(discordant_share) < 0:
        return 1.0
    return float(brentq(missing, 0.0, discordant_share))  # pyright: ignore[reportArgumentType]
