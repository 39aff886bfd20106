"""What a family declares of its champion: which score decides, and what counts as better."""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from dolly_assets.core.base import Config

ScoreName = Literal["exact_match", "token_f1", "held_out_loss"]
GateName = Literal["license", "quality", "profile", "interval", "memorization"]
GATES: tuple[GateName, ...] = get_args(GateName)
Loss = Annotated[float, Field(ge=0)]
TITLES: Mapping[ScoreName, str] = {
    "exact_match": "exact match",
    "token_f1": "token F1",
    "held_out_loss": "held-out loss",
}


class ChampionRule(Config):
    """When an epoch replaces the champion."""

    score: ScoreName | None = Field(
        default=None,
        description="The score that must be better. If left out: exact match where answers can be "
        "checked, the held-out loss where they are open.",
    )
    significance: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Largest p-value of the paired test, one-sided, with which a gain counts; 1 "
        "promotes whatever is better.",
    )
    minimum_gain: float = Field(
        default=0.0, ge=0, description="Smallest gain worth a promotion, in the score's unit."
    )
    may_not_lose: dict[str, Loss] = Field(
        default={},
        description="Score or suite -> how much worse it may become, in its unit. The 95 % "
        "interval of the loss must end below. Of a suite it is the score of its questions; of "
        "texts alone, bits per byte.",
    )
    gates: tuple[GateName, ...] = Field(
        default=GATES,
        description="What is required besides a better score: the licences permit the family's "
        "use, no quality check of the data stops training, no GPU failed during the epoch, the "
        "score has an interval, and the model does not reproduce its training records.",
    )
    memorization_limit: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="How much more of its training records than of held-out ones the model may "
        "reproduce verbatim, as a share.",
    )
    approval: Literal["automatic", "required"] = Field(
        default="automatic",
        description="Whether a person has to approve what the rule found better, before it becomes "
        "champion.",
    )

    def score_of(self, *, exact: bool) -> ScoreName:
        """Return the score that decides, where answers can be checked or are open."""
        return self.score or ("exact_match" if exact else "held_out_loss")

    @property
    def scores_not_to_lose(self) -> dict[ScoreName, float]:
        """The scores in `may_not_lose`."""
        return {name: self.may_not_lose[name] for name in TITLES if name in self.may_not_lose}

    @property
    def suites_not_to_lose(self) -> dict[str, float]:
        """The suites in `may_not_lose`."""
        return {name: loss for name, loss in self.may_not_lose.items() if name not in TITLES}
