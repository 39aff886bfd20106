"""Cross-entropy behind an output layer, chunk by chunk, with its gradients from the forward pass.

Gradients are summed in float32, and rounded once, when the backward pass has scaled them: what
float16 and its loss scale need. Knows what `ChunkedLoss` says of a model.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from dolly_assets.training.packing.chunks import ChunkedLoss

# The gradient of weights in 16 bits is added to its float32 sum by so many rows at a time.
_BLOCK_ROWS = 2**14


def chunked_cross_entropy(
    loss: "ChunkedLoss", hidden: "torch.Tensor", targets: "torch.Tensor", rows: int
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return the summed cross-entropy of tokens in nats, and that of each without its gradient.

    Args:
        loss: Has the output layer.
        hidden: The layer's input: (tokens, size).
        targets: The tokens that it predicts.
        rows: Tokens in a chunk.
    """
    weights = [weight for weight in loss.layer.parameters() if weight.requires_grad]
    return _function().apply(loss, hidden, targets, rows, *weights)


@cache
def _function() -> Any:
    """Return the class of the function, which needs torch to be defined."""
    import torch

    class ChunkedCrossEntropy(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any,
            loss: "ChunkedLoss",
            hidden: torch.Tensor,
            targets: torch.Tensor,
            rows: int,
            *weights: torch.Tensor,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            _, needs_input, _, _, *needs_weights = ctx.needs_input_grad
            kind = _Linear if type(loss.layer) is torch.nn.Linear else _Module
            ctx.layer = layer = kind(loss, weights if any(needs_weights) else (), needs_input)
            is_trained = any(ctx.needs_input_grad)
            losses = []
            for part, labels in zip(hidden.split(rows), targets.split(rows), strict=True):
                logits = layer.logits(part)
                if is_trained:
                    of_part, slopes = _slopes(loss, logits, labels)
                    del logits
                    layer.add(part, slopes)
                else:
                    finished = loss.finished(logits) if loss.changes_logits else logits
                    of_part, _ = _cross_entropy(finished, labels)
                losses.append(of_part)
            of_tokens = torch.cat(losses) if losses else hidden.new_zeros(0, dtype=torch.float32)
            ctx.mark_non_differentiable(of_tokens)
            return of_tokens.sum(), of_tokens

        @staticmethod
        def backward(ctx: Any, scale: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
            of_input, *of_weights = ctx.layer.gradients(scale)
            missing = len(ctx.needs_input_grad) - 4 - len(of_weights)
            return None, of_input, None, None, *of_weights, *[None] * missing

    return ChunkedCrossEntropy


def _slopes(
    loss: "ChunkedLoss", logits: "torch.Tensor", targets: "torch.Tensor"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return the loss of each token, and the gradient of their sum by the output layer's logits."""
    import torch

    if not loss.changes_logits:
        losses, slopes = _cross_entropy(logits, targets)
        return losses, slopes.to(logits.dtype)
    with torch.enable_grad():
        leaf = logits.requires_grad_()
        finished = loss.finished(leaf)
    losses, slopes = _cross_entropy(finished.detach(), targets)
    [found] = torch.autograd.grad(finished, leaf, slopes.to(finished.dtype))
    return losses, found


def _cross_entropy(
    logits: "torch.Tensor", targets: "torch.Tensor"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return the loss of each token, and the gradient of their sum by logits, in float32."""
    import torch

    shares = torch.log_softmax(logits, -1, dtype=torch.float32)
    places = targets[:, None]
    losses = -shares.gather(1, places)[:, 0]
    slopes = shares.exp_()  # in place: there is one such matrix at a time
    return losses, slopes.scatter_add_(1, places, slopes.new_full(places.shape, -1.0))


class _Linear:
    """A linear output layer, and sums of the gradients of its input and its trained weights."""

    def __init__(
        self, loss: "ChunkedLoss", weights: "tuple[torch.Tensor, ...]", needs_input: bool
    ) -> None:
        import torch

        self._weight: torch.Tensor = loss.layer.weight  # pyright: ignore[reportAttributeAccessIssue]
        self._bias: torch.Tensor | None = loss.layer.bias  # pyright: ignore[reportAttributeAccessIssue]
        self._trained, self._needs_input = weights, needs_input
        self._sums = [torch.zeros_like(each, dtype=torch.float32) for each in weights]
        self._of_input: list[torch.Tensor] = []

    def logits(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Return the layer's logits."""
        product = hidden @ self._weight.T
        return product if self._bias is None else product.add_(self._bias)

    def add(self, hidden: "torch.Tensor", slopes: "torch.Tensor") -> None:
        """Add the gradients of a chunk.

        Args:
            hidden: The layer's input.
            slopes: The gradient of its output.
        """
        import torch

        if self._needs_input:
            self._of_input.append(slopes @ self._weight)
        for weight, total in zip(self._trained, self._sums, strict=True):
            if weight.ndim == 1:
                total += slopes.sum(0, dtype=torch.float32)
            elif weight.dtype == torch.float32:
                total.addmm_(slopes.T, hidden)
            else:
                for block, part in zip(
                    total.split(_BLOCK_ROWS), slopes.split(_BLOCK_ROWS, dim=1), strict=True
                ):
                    block += part.T @ hidden

    def gradients(self, scale: "torch.Tensor") -> "tuple[torch.Tensor | None, ...]":
        """Return the gradients of the input and of the trained weights, times a factor; once."""
        import torch

        of_input = torch.cat(self._of_input) if self._of_input else None
        found = tuple(
            total.mul_(scale).to(weight.dtype)
            for weight, total in zip(self._trained, self._sums, strict=True)
        )
        self._of_input, self._sums = [], []
        if of_input is None:
            return None, *found
        return (of_input.float() * scale).to(of_input.dtype), *found


class _Module(_Linear):
    """Any other output layer, such as one with an adapter: autograd computes its gradients."""

    def __init__(
        self, loss: "ChunkedLoss", weights: "tuple[torch.Tensor, ...]", needs_input: bool
    ) -> None:
        self._call, self._trained, self._needs_input = loss.logits, weights, needs_input
        self._sums = []  # their shapes are those of the first gradients: ZeRO 3 hides the weights'
        self._of_input = []

    def logits(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Return the layer's logits."""
        import torch

        with torch.set_grad_enabled(self._needs_input or bool(self._trained)):
            self._input = hidden.detach().requires_grad_(self._needs_input)
            self._output = self._call(self._input[None])[0]
        return self._output.detach()

    def add(self, hidden: "torch.Tensor", slopes: "torch.Tensor") -> None:
        """Add the gradients of a chunk, the one that `logits` was called with last."""
        import torch

        inputs = [self._input] if self._needs_input else []
        found = list(
            torch.autograd.grad(
                self._output,
                [*inputs, *self._trained],
                slopes,
            )
        )
        if self._needs_input:
            self._of_input.append(found.pop(0))
        if not self._sums:
            self._sums = [each.float() for each in found]
            return
        for total, each in zip(self._sums, found, strict=True):
            total += each
