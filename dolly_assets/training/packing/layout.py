"""How the examples of a micro-batch are laid out for a model: packed, padded, or one alone.

The choice is made when the model is there; until then, and for the whole training, the collator
follows it. Knows nothing of how it is made.
"""

from dataclasses import dataclass

from dolly_assets.training.packing.attention import NAME
from dolly_assets.training.packing.batches import (
    MicroBatch,
    PackedRow,
    PackingCollator,
    PaddingCollator,
)


@dataclass(frozen=True)
class Layout:
    """One way of laying out examples.

    Attributes:
        packed: Whether examples are laid end to end; else they are padded to the longest.
        attention: The attention implementation that it needs.
        refused: Why layouts that come first are not exact for the model, each in a phrase.
        full_logits: Why the loss is computed from all logits of labelled tokens at once; empty if
            it is computed in chunks.
    """

    packed: bool
    attention: str
    refused: tuple[str, ...] = ()
    full_logits: str = ""

    @property
    def name(self) -> str:
        """Such as `packed with within_examples attention`."""
        return f"{'packed' if self.packed else 'padded'} with {self.attention} attention"

    @property
    def is_own_attention(self) -> bool:
        """Whether the model computes attention in its own way."""
        return self.attention != NAME

    @property
    def reason(self) -> str:
        """Why it is none of those that come first; empty if it is the first."""
        return "; ".join(self.refused)


class LayoutCollator:
    """Lays out rows as the layout says, which may be decided after the data loader is built."""

    def __init__(self, pad_token_id: int, *, packed: bool, multiple: int = 1) -> None:
        """Create it.

        Args:
            pad_token_id: What fills sequences up.
            packed: Whether examples are packed until a layout is chosen.
            multiple: What the length of a packed sequence is a multiple of.
        """
        self._packing = PackingCollator(pad_token_id, multiple)
        self._padding = PaddingCollator(pad_token_id)
        self._packed = packed
        self.layout: Layout | None = None

    def __call__(self, rows: list[PackedRow]) -> MicroBatch:
        """Return the rows' micro-batch."""
        packed = self.layout.packed if self.layout else self._packed
        return (self._packing if packed else self._padding)(rows)
