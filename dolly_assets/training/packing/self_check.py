"""Choose a layout of examples in which a model computes each of them as it does alone.

Architectures do what they like with positions and masks, and a wrong answer would look like
training. A layout is tested twice before the first step: on a small copy in float32, whose limits
are below the lengths of the test, and on the model itself with its weights, device and kernels.
Knows nothing of which architecture does what.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from dolly_assets.core.errors import TrainingError
from dolly_assets.core.text import one_line
from dolly_assets.training.packing import attention
from dolly_assets.training.packing.batches import (
    MicroBatch,
    PackedRow,
    PackingCollator,
    PaddingCollator,
)
from dolly_assets.training.packing.chunks import ChunkedLoss
from dolly_assets.training.packing.exactness import SmallCopy
from dolly_assets.training.packing.expected import Expected
from dolly_assets.training.packing.layout import Layout
from dolly_assets.training.packing.miniature import EVERYWHERE, Reach
from dolly_assets.training.seams import attention_implementation, can_set_attention

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from dolly_assets.training.packing.loss import LabelLoss

_LENGTHS = (7, 12, 5)
# Of what changing an example's beginning does to its own end; the rest is rounding.
_TOLERANCE = 1e-3
# Of the spread of log-probabilities, in units of the dtype's rounding.
_ROUNDING = 4
_MOST_LENGTH = 32768


def choose_layout(
    model: "PreTrainedModel",
    loss: "LabelLoss",
    *,
    packing: bool,
    required: bool = False,
    reach: Reach = EVERYWHERE,
    single: bool = False,
) -> Layout:
    """Test the architecture and the model, one after the other; see `LayoutTests`."""
    tests = LayoutTests(model, loss, packing=packing, required=required, reach=reach, single=single)
    return tests.choose(model)


def choose_attention(model: "PreTrainedModel", loss: "LabelLoss", reach: Reach = EVERYWHERE) -> str:
    """Leave the model with the fastest attention that keeps packed examples apart; return its name.

    Raises:
        TrainingError: None does.
    """
    return choose_layout(model, loss, packing=True, required=True, reach=reach).attention


class LayoutTests:
    """Finds the first layout that is exact for a model.

    Packed with our attention comes first, then packed with the model's own, which may make a mask
    from positions that restart, then padded.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        loss: "LabelLoss",
        *,
        packing: bool,
        required: bool = False,
        reach: Reach = EVERYWHERE,
        single: bool = False,
    ) -> None:
        """Test the architecture, on the CPU and before kernels are replaced.

        Args:
            model: The model that will be trained; only its configuration counts here.
            loss: What calls it.
            packing: Whether examples are to be packed.
            required: Whether they may not be padded instead.
            reach: How long examples get in this training.
            single: Whether a forward pass has one row only: one example, unless they are packed.
        """
        self._loss, self._required, self._single = loss, required, single and not packing
        self._own = own = attention_implementation(model)
        self._lengths = _LENGTHS
        candidates: list[Layout] = []
        if packing:
            names = (attention.NAME, own) if can_set_attention(model) else (own,)
            candidates += [Layout(packed=True, attention=name) for name in names]
        if not required:
            candidates.append(Layout(packed=False, attention=own))
        try:
            copy = SmallCopy(model.config, own, loss, reach)
        except TrainingError:
            # Then the model itself has to show what it does beyond its limits.
            longest = max(min(reach.example or _MOST_LENGTH, _context(model), _MOST_LENGTH), 12)
            self._lengths = (7, longest, 12, longest // 2, longest // 3, 5)
            copy = None
        self._is_proved, self._copy = copy is not None, copy
        self._candidates = [(layout, self._refusal(layout, copy)) for layout in candidates]

    @property
    def expected(self) -> tuple[Expected, str]:
        """The first layout that is exact for the architecture, and why it is not an earlier one."""
        if not self._is_proved:
            return "unknown", "the architecture has no small copy to test"
        refused: list[str] = []
        for layout, refusal in self._candidates:
            if not refusal:
                return "packed" if layout.packed else "padded", "; ".join(refused)
            refused.append(f"{layout.name}: {refusal}")
        return "refused", "; ".join(refused)

    def choose(self, model: "PreTrainedModel") -> Layout:
        """Leave the model with the first layout that is exact for it, too, and return the layout.

        Every rank calls it.

        Raises:
            TrainingError: None is.
        """
        refused: list[str] = []
        for layout, refusal in self._candidates:
            found = refusal or _reason(lambda layout=layout: self._test(model, layout))
            if not found:
                return Layout(layout.packed, layout.attention, tuple(refused))
            refused.append(f"{layout.name}: {found}")
        _set(model, self._own)
        raise TrainingError(self._explanation("; ".join(refused)))

    def use_chunks(self, model: "PreTrainedModel", layout: Layout) -> Layout:
        """Have the loss computed in chunks from now on, if that is exact for a model.

        Every rank calls it.

        Args:
            model: The model, with its adapter if it has one.
            layout: The layout that was chosen for it.

        Returns:
            The layout, with the reason where all logits have to be computed at once.
        """
        refusal = "the architecture has no small copy to test"
        if copy := self._copy:
            refusal = _reason(copy.check_chunks)
        if not refusal:
            refusal = _reason(lambda: self._test_chunks(model, layout))
        if refusal:
            self._loss.chunks = None
        return replace(layout, full_logits=refusal)

    def _test_chunks(self, model: "PreTrainedModel", layout: Layout) -> None:
        """Raise an exception unless the loss in chunks is that of all logits, to rounding."""
        import torch

        examples = _random_examples(model.config.get_text_config().vocab_size, _LENGTHS)
        losses: list[float] = []
        with _evaluating(model):
            for chunks in (None, ChunkedLoss(model)):
                self._loss.chunks = chunks
                batches = self._batches(model, examples, layout)
                losses.append(sum(self._loss.sum(model, batch).item() for batch in batches))
        full, chunked = losses
        if not abs(chunked - full) <= max(1e-5, torch.finfo(model.dtype).eps) * abs(full):
            raise TrainingError(f"the loss in chunks is {chunked:.6g}, and {full:.6g} without")

    def _explanation(self, refused: str) -> str:
        name = self._loss.model_class.__name__
        if self._required:
            return f"{name} cannot be trained on packed rows: {refused}. Set recipe.packing: false"
        if self._single:
            return f"{name} cannot be trained: {refused}. Use another base model"
        return (
            f"{name} cannot be trained on several examples at once: {refused}. Set recipe.packing: "
            "false and recipe.micro_batch_size: 1, which computes each example alone"
        )

    def _refusal(self, layout: Layout, copy: SmallCopy | None) -> str:
        """Why the architecture does not compute a layout exactly; empty if it does."""
        if copy is None:
            return ""
        name = None if layout.is_own_attention else layout.attention
        return _reason(lambda: copy.check(name, packed=layout.packed, together=not self._single))

    def _test(self, model: "PreTrainedModel", layout: Layout) -> None:
        """Raise an exception, TrainingError or any other, if the model is not exact in a layout."""
        import torch

        examples = _random_examples(model.config.get_text_config().vocab_size, self._lengths)
        changed = [examples[0].copy(), *examples[1:]]
        changed[0][:-1] = np.roll(changed[0][:-1], 1)
        with _evaluating(model):
            _set(model, self._own)
            alone = _plain_logits(model, examples)
            _set(model, layout.attention)
            found, beside = (self._logits(model, each, layout) for each in (examples, changed))
        eps = torch.finfo(model.dtype).eps
        _compare(alone, found, beside, first=self._lengths[0] - 1, eps=eps, loosely=self._is_proved)

    def _logits(
        self, model: "PreTrainedModel", examples: list[np.ndarray], layout: Layout
    ) -> "torch.Tensor":
        """Those of all tokens but the examples' last: (tokens, vocabulary) in float32."""
        import torch

        batches = self._batches(model, examples, layout)
        return torch.cat([self._loss.logits(model, batch).float() for batch in batches])

    def _batches(
        self, model: "PreTrainedModel", examples: list[np.ndarray], layout: Layout
    ) -> Iterator[MicroBatch]:
        """Lay examples out, on the model's device."""
        collator = PackingCollator(0) if layout.packed else PaddingCollator(0)
        device = next(model.parameters()).device
        for part in [[each] for each in examples] if self._single else [examples]:
            batch = collator([PackedRow.with_prompts(part, [1] * len(part))])
            on_device = {
                name: getattr(value, "to", lambda _, value=value: value)(device)
                for name, value in batch.items()
            }
            yield cast(MicroBatch, on_device)


def _reason(test: Callable[[], None]) -> str:
    """Why a test fails, whatever it raises; empty if it succeeds."""
    import torch

    try:
        test()
    except TrainingError as error:
        return str(error)
    except (MemoryError, torch.OutOfMemoryError):
        raise  # no other layout needs less
    except Exception as error:  # noqa: BLE001 each architecture fails in its own way
        return f"{type(error).__name__}: {one_line(error, 200)}"
    return ""


def _compare(
    alone: "torch.Tensor",
    found: "torch.Tensor",
    beside: "torch.Tensor",
    *,
    first: int,
    eps: float,
    loosely: bool,
) -> None:
    """Compare logits of examples together, of the same beside a changed one, and of each alone.

    Args:
        alone: Of each example alone.
        found: Of the examples in the layout that is tested.
        beside: The same with another beginning of the first example.
        first: How many logits are the first example's.
        eps: What the model's dtype rounds to, relative.
        loosely: Whether single tokens may differ, as where a router of experts is undecided and
            rounding decides.

    Raises:
        TrainingError: They differ by more than rounding.
    """
    if not alone.isfinite().all():
        raise TrainingError("the model's own logits are NaN or infinite")
    effect = (found[first - 1] - beside[first - 1]).abs().max()
    if not effect > 0:
        raise TrainingError("no token sees the tokens before it")
    if not (found[first:] - beside[first:]).abs().max() <= _TOLERANCE * effect:
        raise TrainingError("a token sees another example")
    one, other = (each.log_softmax(-1) for each in (alone, found))
    of_tokens = (one - other).square().mean(-1).sqrt()
    off = of_tokens.median() if loosely else of_tokens.max()
    spread = (one - one.mean(-1, keepdim=True)).square().mean(-1).sqrt().median()
    if not off <= _TOLERANCE * effect + _ROUNDING * eps * spread:
        raise TrainingError("an example gets other logits than alone")


def _plain_logits(model: "PreTrainedModel", examples: list[np.ndarray]) -> "torch.Tensor":
    """Call the model plainly, as nothing else here does, and return such logits."""
    import torch

    device = next(model.parameters()).device
    found = []
    for example in examples:
        tokens = torch.from_numpy(example.astype(np.int64)).to(device)
        found.append(model(input_ids=tokens[None], use_cache=False).logits[0, :-1].float())
    return torch.cat(found)


@contextmanager
def _evaluating(model: "PreTrainedModel") -> Iterator[None]:
    """Turn dropout and gradients off."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _random_examples(vocabulary: int, lengths: tuple[int, ...]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(vocabulary, size=length, dtype=np.int32) for length in lengths]


def _context(model: "PreTrainedModel") -> int:
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or _MOST_LENGTH)


def _set(model: "PreTrainedModel", name: str) -> None:
    if can_set_attention(model):
        model.set_attn_implementation(name)
