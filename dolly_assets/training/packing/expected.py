"""The layout of examples that a base model will be trained in, found when the model is prepared.

What it is may depend on how long examples get, which a base model does not know. So it is found
twice: for examples beyond every limit of the configuration, and for those within all of them.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from dolly_assets.core.base import Config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Expected = Literal["packed", "padded", "refused", "unknown"]


class ExpectedLayouts(Config):
    """What preparing a base model found, as an attribute of its artifact."""

    limit: int | None = Field(
        description="The smallest window, chunk or original context, in tokens; None without one."
    )
    within: Expected = Field(description="The layout while a forward pass is not longer than that.")
    beyond: Expected = Field(description="The layout otherwise.")
    reason: str = Field(description="Why the layout beyond the limit is not packed; may be empty.")

    def of(self, tokens: int) -> Expected:
        """Return the layout for forward passes of at most so many tokens."""
        return self.within if self.limit is None or tokens <= self.limit else self.beyond


def expected_layouts(model: "PreTrainedModel") -> ExpectedLayouts:
    """Test the architecture of a model, on small copies of it."""
    from dolly_assets.training.packing.attention import PackedAttention
    from dolly_assets.training.packing.loss import LabelLoss
    from dolly_assets.training.packing.miniature import Reach, smallest_limit
    from dolly_assets.training.packing.self_check import LayoutTests

    packed = PackedAttention()
    packed.register()
    loss = LabelLoss(model, packed)
    limit = smallest_limit(model.config)
    beyond, reason = LayoutTests(model, loss, packing=True).expected
    within = beyond
    if limit is not None:
        within, _ = LayoutTests(model, loss, packing=True, reach=Reach(0, 0)).expected
    return ExpectedLayouts(limit=limit, within=within, beyond=beyond, reason=reason)
