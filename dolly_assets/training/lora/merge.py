"""A trained adapter's weights, and the weights of a whole model with them merged in.

Nothing here builds a model: a training is running in the same process, and what transformers or
peft load meanwhile would take part in its sharding. Tensors are merged one by one, in float32, and
rounded once to the type of the base model's.
"""

import json
import math
import re
import shutil
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from dolly_assets.core.errors import ArtifactError, BaseModelError, TrainingError
from dolly_assets.core.text import one_line
from dolly_assets.training.checkpoint import tensors
from dolly_assets.training.weights_files import is_adapter_file, is_model_file

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ADAPTER_CONFIG = "adapter_config.json"
MERGED = "merged"

_PREFIX = "base_model.model."
_ROWS = ".token_adapter.trainable_tokens_delta"
_COPY = ".modules_to_save.default."
_LENGTHS = ".lora_magnitude_vector"
_OF_ADAPTER = r"\.lora_(?:A|B|embedding_A|embedding_B|magnitude_vector)\.|\.token_adapter\."
_MATRICES = (".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B")
# What peft's LoRA can also do, and no recipe asks for.
_UNKNOWN = (
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "target_parameters",
)


def finish(checkpoint: Path, base: Path, *, merge: bool) -> None:
    """Prepare a saved adapter's folder for publishing.

    Args:
        checkpoint: The folder; paths of this machine are removed from its configuration.
        base: The weights that the adapter was trained on.
        merge: Whether to write the merged weights into its subfolder `merged/`.

    Raises:
        BaseModelError: The adapter does not belong to these weights.
    """
    file = checkpoint / ADAPTER_CONFIG
    config = {**json.loads(file.read_text()), "base_model_name_or_path": None}
    file.write_text(json.dumps(config, indent=2))
    if merge:
        write_merged(checkpoint, base, checkpoint / MERGED)


def check_mergeable(adapted: "PreTrainedModel", base: Path) -> None:
    """Check before the training that its adapter can be merged into a base model's files.

    Raises:
        TrainingError: The files name a weight otherwise than the model does.
    """
    names = {
        _name_in_files(name.removeprefix(_PREFIX))
        for name, weight in adapted.named_parameters()
        if weight.requires_grad
    }
    known = {each.name for file in tensors.shards(base) for each in tensors.read_header(file)}
    if unknown := sorted(names - known):
        raise TrainingError(
            f"recipe.lora.merge: the base model's files have no {unknown[0]}, since its "
            "architecture stores it under another name: leave merge out, and merge with peft"
        )


def _name_in_files(parameter: str) -> str:
    """Return the base model's weight that a trained parameter changes."""
    if _COPY in parameter:
        return parameter.replace(_COPY, ".")
    return f"{re.split(_OF_ADAPTER, parameter)[0]}.weight"


def with_adapter(model: "PreTrainedModel", adapter: Path) -> "PreTrainedModel":
    """Return the model with an adapter merged into its weights.

    Raises:
        BaseModelError: The adapter does not belong to this model.
    """
    import torch

    changes = Adapter(adapter)
    parameters = dict(model.named_parameters())
    changes.check_names(parameters.keys(), f"a {type(model).__name__}")
    with torch.no_grad():
        for name in changes.names:
            parameters[name].copy_(changes.applied(name, parameters[name]))
    return model


class Adapter:
    """The tensors of a trained adapter."""

    def __init__(self, folder: Path) -> None:
        """Read the adapter of a folder.

        Raises:
            BaseModelError: It is not a LoRA adapter, or one of a kind that is not merged here.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self._folder = folder
        try:
            self._config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text())
            found = load_file(folder / "adapter_model.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise BaseModelError(f"{folder}: not a LoRA adapter: {one_line(error)}") from error
        unknown = [name for name in _UNKNOWN if self._config.get(name)]
        if self._config.get("peft_type") != "LORA" or self._config.get("bias", "none") != "none":
            unknown.append("another type or trained biases")
        if unknown:
            raise BaseModelError(
                f"{folder}: an adapter with {', '.join(unknown)}: merge it with peft, and load the "
                "merged weights"
            )
        self._rows: dict[str, torch.Tensor] = {}
        self._matrices: dict[str, dict[str, torch.Tensor]] = {}
        self._lengths: dict[str, torch.Tensor] = {}  # of rows, with DoRA
        self._copies: dict[str, torch.Tensor] = {}  # of layers that are trained whole
        for key, tensor in found.items():
            self._add(key, tensor)
        if bool(self._lengths) != bool(self._config.get("use_dora")):
            raise BaseModelError(
                f"{folder}: adapter_config.json and the tensors disagree on whether this is DoRA: "
                "use both files as peft wrote them"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the weights that it changes."""
        return (*self._rows, *self._matrices, *self._copies)

    def check_names(self, known: Any, what: str) -> None:
        """Raise BaseModelError unless all its weights are known to a model."""
        if missing := sorted(set(self.names) - set(known)):
            raise BaseModelError(
                f"{self._folder} does not load as an adapter of {what}: that has no {missing[0]}"
            )

    def applied(self, name: str, weight: "torch.Tensor") -> "torch.Tensor":
        """Return a weight with what the adapter changes of it, in the weight's type.

        Raises:
            BaseModelError: The weight has another shape than the one that was trained, or the
                result is not finite.
        """
        import torch

        try:
            changed = self._changed(name, weight.detach().float())
        except (RuntimeError, IndexError) as error:
            raise BaseModelError(
                f"{self._folder} does not load as an adapter of this model: {name}: "
                f"{one_line(error)}"
            ) from error
        if not torch.isfinite(changed).all():
            raise BaseModelError(f"{self._folder}: {name} has values that are not finite")
        return changed.to(weight.dtype)

    def _add(self, key: str, tensor: "torch.Tensor") -> None:
        name = key.removeprefix(_PREFIX)
        if name.endswith(_ROWS):
            self._rows[f"{name.removesuffix(_ROWS)}.weight"] = tensor
            return
        if name.endswith(_LENGTHS):
            self._lengths[f"{name.removesuffix(_LENGTHS)}.weight"] = tensor
            return
        for suffix in _MATRICES:
            if name.endswith(suffix):
                weight = f"{name.removesuffix(suffix)}.weight"
                self._matrices.setdefault(weight, {})[suffix] = tensor
                return
        saved = self._config.get("modules_to_save") or ()
        layer = name.rpartition(".")[0]
        if not any(f".{layer}.".find(f".{each}.") >= 0 for each in saved):
            raise BaseModelError(f"{self._folder}: {key} is no tensor of a LoRA adapter")
        self._copies[name] = tensor

    def _changed(self, name: str, weight: "torch.Tensor") -> "torch.Tensor":
        if name in self._rows:
            import torch

            index = torch.tensor(self._token_ids(name), device=weight.device)
            return weight.index_copy(0, index, self._rows[name].to(weight))
        if name in self._copies:
            return weight.copy_(self._copies[name].expand(weight.shape))
        first, second = (
            tensor.to(weight)
            for _, tensor in sorted(self._matrices[name].items())  # A before B
        )
        product = second @ first
        is_transposed = self._is_transposed(name, weight, product)
        if is_transposed:
            product = product.T
        changed = weight + product * self._scale(first.shape[0])
        if name not in self._lengths:
            return changed
        rows = 0 if is_transposed else 1  # the dimension that a row's entries are along
        lengths = self._lengths[name].to(weight).unsqueeze(rows)
        return changed * (lengths / changed.norm(dim=rows, keepdim=True))

    def _is_transposed(self, name: str, weight: "torch.Tensor", product: "torch.Tensor") -> bool:
        """Return whether a weight is (inputs, outputs), as in embeddings and GPT-2's Conv1D."""
        if any("embedding" in suffix for suffix in self._matrices[name]):
            return True
        if product.shape[0] != product.shape[1]:
            return weight.shape != product.shape
        return bool(self._config.get("fan_in_fan_out"))

    def _scale(self, rank: int) -> float:
        alpha = float(self._config["lora_alpha"])
        return alpha / (math.sqrt(rank) if self._config.get("use_rslora") else rank)

    def _token_ids(self, name: str) -> list[int]:
        """Return the ids of a layer's trained rows, in their order."""
        ids = self._config.get("trainable_token_indices") or {}
        if isinstance(ids, list):
            return cast("list[int]", ids)
        layer = name.removesuffix(".weight")
        return next(found for key, found in ids.items() if f".{layer}".endswith(f".{key}"))


def write_merged(adapter: Path, base: Path, out: Path) -> None:
    """Write a base model's files with an adapter merged in, and the adapter's tokenizer."""
    changes = Adapter(adapter)
    try:
        shards = {file: tensors.read_header(file) for file in tensors.shards(base)}
    except ArtifactError as error:
        raise BaseModelError(str(error)) from error
    changes.check_names(
        (each.name for found in shards.values() for each in found), f"the weights in {base}"
    )
    out.mkdir(exist_ok=True)
    for file in base.iterdir():
        if is_model_file(file.name) and file.suffix != ".safetensors":
            shutil.copyfile(file, out / file.name)
    for file in adapter.iterdir():
        if is_adapter_file(file.name) and not file.name.startswith("adapter_"):
            shutil.copyfile(file, out / file.name)
    for file, found in shards.items():
        _write_shard(file, found, changes, out / file.name)


def _write_shard(file: Path, found: list[tensors.Tensor], changes: Adapter, out: Path) -> None:
    """Write one file as it is, tensor by tensor, with the changed ones in their places.

    Shapes and types stay, and so does the header: memory holds one tensor at a time.
    """
    with out.open("wb") as stream:
        with file.open("rb") as header:
            stream.write(header.read(min((each.begin for each in found), default=0) or None))
        for tensor in sorted(found, key=lambda each: each.begin):
            if tensor.name in changes.names:
                _write_changed(tensor, changes, stream)
                continue
            for chunk in tensors.read_bytes(tensor):
                stream.write(chunk)


def _write_changed(tensor: tensors.Tensor, changes: Adapter, stream: IO[bytes]) -> None:
    import torch
    from safetensors import safe_open

    with safe_open(tensor.file, framework="pt") as weights:
        changed = changes.applied(tensor.name, weights.get_tensor(tensor.name))
    stream.write(changed.contiguous().view(torch.uint8).numpy().tobytes())
