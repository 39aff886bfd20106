"""The loss of labelled tokens without their logits: the output layer runs on a chunk at a time.

Logits of all labelled tokens take tokens times vocabulary, also in float32 and with their gradient.
Here the output layer computes the loss of each chunk instead and, at once, the gradients of its
input and its weights, so that memory holds the logits of one chunk. What a model does to its logits
afterwards, such as scaling or capping them, is done by the model's own code. Knows models, and
nothing of batches.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from dolly_assets.core.errors import TrainingError
from dolly_assets.core.text import one_line
from dolly_assets.training import seams

if TYPE_CHECKING:
    import torch

# Logits of one chunk in float32: enough for a device to multiply at its usual rate.
CHUNK_BYTES = {"cpu": 64 * 2**20, "cuda": 256 * 2**20}
# Logits that show whether a model changes them: caps are between them.
_PROBE = (-1e3, -30.0, -1.0, 0.0, 0.5, 2.0, 50.0, 1e3)


def chunk_rows(vocabulary: int, device: str) -> int:
    """Return the number of labelled tokens in a chunk."""
    return max(1, CHUNK_BYTES[device] // (4 * vocabulary))


def needs_chunks(model: "torch.nn.Module", tokens: int) -> bool:
    """Whether one chunk would not hold the labels of a micro-batch of so many tokens.

    If it would, all logits take as little memory, and a training gives the same weights as before
    there were chunks.
    """
    vocabulary = int(cast("Any", model).config.get_text_config().vocab_size)
    return tokens > chunk_rows(vocabulary, next(model.parameters()).device.type)


class ChunkedLoss:
    """Has a model's output layer compute a loss in place of logits, while `of` calls the model."""

    def __init__(self, model: "torch.nn.Module", rows: int | None = None) -> None:
        """Prepare a model: its output layer is called through this object from now on.

        Args:
            model: The model, with its adapter if it has one.
            rows: Labelled tokens in a chunk; by default what fits CHUNK_BYTES.

        Raises:
            TrainingError: Its backbone, its output layer and what follows cannot be told apart.
        """
        self._model: Any = getattr(model, "get_base_model", lambda: model)()
        self._layer = _output_layer(self._model)
        self._parent, self._name = _place(self._model, self._layer)
        self._backbone = _backbone(self._model)
        self._vocabulary = int(self._model.config.get_text_config().vocab_size)
        self._rows = rows
        self._wanted: tuple[torch.Tensor, torch.Tensor] | None = None
        self._found: tuple[torch.Tensor, torch.Tensor] | None = None
        self.changes_logits = self._has_changes()
        # Their gradients come at once, before those of the parts that hold them.
        seams.gather_with(
            self._layer, *(each for each in self._layer.parameters() if each.requires_grad)
        )
        self.logits = self._layer.forward
        self._layer.forward = self._forward

    @property
    def layer(self) -> "torch.nn.Module":
        """The output layer."""
        return self._layer

    def of(
        self, call: "Callable[[], torch.Tensor]", keep: "torch.Tensor", targets: "torch.Tensor"
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return the summed loss, and the loss of each token without its gradient.

        Args:
            call: Calls the model, and returns what it takes for its logits.
            keep: The positions that predict labelled tokens, as in a micro-batch.
            targets: The labelled tokens.

        Raises:
            TrainingError: The model did not call its output layer.
        """
        self._wanted, self._found = (keep, targets), None
        try:
            out = call()
        finally:
            self._wanted = None
        total, of_tokens = self._take()
        # Adds nothing, and leads the backward pass through the layer's output, where ZeRO 3 gathers
        # the weights whose gradients come next.
        return total + out.float().sum() * 0, of_tokens

    def _take(self) -> "tuple[torch.Tensor, torch.Tensor]":
        found, self._found = self._found, None
        if found is None:
            raise TrainingError("its output layer is not called in a forward pass")
        return found

    def _forward(self, hidden: "torch.Tensor", *others: Any, **named: Any) -> "torch.Tensor":
        """Return logits; while `of` is called, keep the loss and return a zero in their place."""
        if self._wanted is None or not hidden.is_floating_point():
            return self.logits(hidden, *others, **named)
        from dolly_assets.training.packing.chunk_gradients import chunked_cross_entropy

        (keep, targets), self._wanted = self._wanted, None
        chosen = hidden[keep] if keep.ndim > 1 else hidden[0, keep]
        rows = self._rows or chunk_rows(self._vocabulary, hidden.device.type)
        total, of_tokens = chunked_cross_entropy(self, chosen, targets, rows)
        self._found = total, of_tokens.detach()
        return (total * 0).to(hidden.dtype).reshape((1,) * hidden.ndim)

    def finished(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Return what the model makes of its output layer's logits: (tokens, vocabulary)."""
        import torch

        size = int(self._model.config.get_text_config().hidden_size)
        outputs = _Outputs(logits.new_zeros(1, len(logits), size))
        ids = torch.zeros(1, len(logits), dtype=torch.long, device=logits.device)
        with (
            _replaced(self._model, self._backbone, outputs),
            _replaced(self._parent, self._name, logits[None]),
        ):
            return self._model.forward(input_ids=ids, use_cache=False).logits[0]

    def _has_changes(self) -> bool:
        import torch

        weight = next(self._model.parameters())
        probe = torch.tensor(_PROBE, dtype=weight.dtype, device=weight.device)
        probe = probe[:, None].expand(-1, self._vocabulary)
        try:
            with torch.no_grad():
                found = self.finished(probe)
        except Exception as error:
            raise TrainingError(
                f"what follows its output layer cannot be called alone: {one_line(error, 200)}"
            ) from error
        return not torch.equal(found.float(), probe.float())


class _Outputs:
    """What a backbone returns, as far as code behind the output layer asks for it."""

    def __init__(self, hidden: "torch.Tensor") -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, _: int) -> "torch.Tensor":
        return self.last_hidden_state

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _output_layer(model: Any) -> "torch.nn.Module":
    try:
        layer = model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        layer = None
    if layer is None or layer is model.get_input_embeddings():
        raise TrainingError("it has no output layer of its own")
    return layer


def _backbone(model: Any) -> str:
    """Return the name of the part that computes the output layer's input."""
    parts = dict(model.named_children())
    embeddings = model.get_input_embeddings()
    with_embeddings = (
        name for name, part in parts.items() if any(each is embeddings for each in part.modules())
    )
    prefix = str(model.base_model_prefix)  # a few architectures name none of their parts
    return prefix if prefix in parts else next(with_embeddings, prefix)


def _place(model: "torch.nn.Module", layer: "torch.nn.Module") -> "tuple[torch.nn.Module, str]":
    """Return the module that has the layer as an attribute, and the attribute's name."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if child is layer:
                return parent, name
    raise TrainingError("its output layer is none of its parts")


class _StandIn:
    """Returns a given value when it is called, in place of a module, and has that one's tensors."""

    def __init__(self, module: "torch.nn.Module", value: Any) -> None:
        self._module, self._value = module, value

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self._value

    def __getattr__(self, name: str) -> Any:
        import torch

        found = getattr(self._module, name)
        return self if isinstance(found, torch.nn.Module) else found


@contextmanager
def _replaced(module: "torch.nn.Module", name: str, value: Any) -> Iterator[None]:
    """Have a module's own code get a value where it calls one of its parts.

    What a module has as an attribute of its own hides a part of that name, which stays as it is.
    """
    part = dict(module.named_children()).get(name)
    if part is None:
        raise TrainingError(f"{type(module).__name__} has no part {name}")
    attributes = cast(dict[str, Any], module.__dict__)
    attributes[name] = _StandIn(part, value)
    try:
        yield
    finally:
        del attributes[name]
