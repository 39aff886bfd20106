"""What a verdict was chosen from: every epoch and the champion, with score, gain and p-value."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dolly_assets.core.markdown import markdown_table
from dolly_assets.core.text import with_interval
from dolly_assets.scoring.contender import Contender, improvements, weights, why_not_comparable
from dolly_assets.scoring.examples import Score
from dolly_assets.scoring.intervals import Interval
from dolly_assets.scoring.paired import Gain, gains
from dolly_assets.scoring.rule import TITLES, ScoreName


@dataclass(frozen=True)
class Alternative:
    """A line of the table behind a verdict.

    Attributes:
        name: What sentences call the model.
        checkpoint: The digest of its checkpoint.
        score: The score that decides; None if it is not finite, or nothing was measured.
        interval: Its 95 % interval.
        gain: What it gained over the champion, positive being better; None where the two cannot be
            compared.
        gain_interval: The 95 % interval of the gain.
        p_value: How often chance alone would let the best of the epochs gain as much.
        note: Why it could not be promoted or compared; empty if it could.
        memorization: How much more of its training records than of held-out ones it reproduces
            verbatim; None where that was not measured.
        memorization_interval: Its 95 % interval.
    """

    name: str
    checkpoint: str
    score: float | None
    interval: Interval | None
    gain: float | None = None
    gain_interval: Interval | None = None
    p_value: float | None = None
    note: str = ""
    memorization: float | None = None
    memorization_interval: Interval | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


def alternatives(
    score: ScoreName, candidates: Sequence[Contender], champion: Contender
) -> list[Alternative]:
    """Return the champion and every candidate, in this order."""
    gained = {
        place: found
        for place, each in enumerate(candidates)
        if not each.barred and (found := improvements(score, each, champion)) is not None
    }
    found = gains(np.stack([*gained.values()]), weights(score, champion)) if gained else []
    compared = dict(zip(gained, found, strict=True))
    return [
        _line(score, champion),
        *(
            _line(score, each, each.barred or why_not_comparable(score, each, champion), gain)
            for place, each in enumerate(candidates)
            for gain in [compared.get(place)]
        ),
    ]


def alternatives_markdown(score: ScoreName, lines: Sequence[Alternative]) -> str:
    """Return the table as Markdown."""
    header = ("model", TITLES[score], "gain", "p", "memorized", "note")
    return markdown_table(
        header,
        [
            (
                line.name,
                with_interval(line.score, line.interval, ".4f"),
                with_interval(line.gain, line.gain_interval, "+.4f"),
                "–" if line.p_value is None else f"{line.p_value:.4f}",
                with_interval(line.memorization, line.memorization_interval, "+.3f"),
                line.note,
            )
            for line in lines
        ],
    )


def _line(
    score: ScoreName, contender: Contender, note: str = "", gain: Gain | None = None
) -> Alternative:
    shown, remembered = contender.score(score), contender.memorization or Score(None)
    return Alternative(
        name=contender.name,
        checkpoint=contender.checkpoint,
        score=shown.value,
        interval=shown.interval,
        gain=gain.gain if gain else None,
        gain_interval=gain.interval if gain else None,
        p_value=gain.p_value if gain else None,
        note=note,
        memorization=remembered.value,
        memorization_interval=remembered.interval,
    )
