"""The format `gguf`: one file with weights, tokenizer and chat template, as llama.cpp loads it.

Memory holds one tensor at a time. What an architecture's tensors are is the business of
`gguf_architectures.py`, what a tokenizer is of `gguf_vocabulary.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.exporting.gguf_architectures import Architecture, architecture_of
from dolly_assets.exporting.gguf_vocabulary import vocabulary_of
from dolly_assets.exporting.huggingface import encoder_of, stop_token_ids
from dolly_assets.exporting.model import ExportedModel
from dolly_assets.exporting.settings import Quantization
from dolly_assets.training.checkpoint import tensors

if TYPE_CHECKING:
    import numpy as np
    import torch
    from gguf import GGMLQuantizationType, GGUFWriter

FILE = "model.gguf"
_OUTPUT = ("lm_head.weight", "embed_out.weight")
_EMBEDDINGS = ("embed_tokens.weight", "embed_in.weight")
# Buffers that earlier versions of transformers saved with a model.
_NOT_WEIGHTS = (".attention.bias", ".masked_bias", ".inv_freq")


def write_file(
    model: ExportedModel, weights: Path, file: Path, quantize: Quantization, *, name: str = ""
) -> None:
    """Write a model as one GGUF file.

    Args:
        model: Whose template it gets.
        weights: The folder of its whole weights, an adapter merged in.
        file: The file to write.
        quantize: How matrices are stored; vectors are always in float32.
        name: What the file calls the model.

    Raises:
        ConfigurationError: llama.cpp lacks the architecture or the tokenizer, or a value is too
            large for float16.
        OSError: The disk is full.
    """
    from gguf import GGUFWriter
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(weights, local_files_only=True).get_text_config()
    architecture = architecture_of(config)
    encoder, tokenizer = encoder_of(model, weights)
    vocabulary = vocabulary_of(tokenizer, config.vocab_size)
    plan = list(_planned(weights, config, architecture, quantize))
    writer = GGUFWriter(file, architecture.name)
    try:
        writer.add_name(name or "model")
        architecture.describe(writer, config)
        _add_types(writer, quantize)
        vocabulary.write(writer, tokenizer, stop_token_ids(encoder, tokenizer))
        writer.add_chat_template(encoder.template.text)
        for tensor in plan:
            tensor.announce(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in plan:
            writer.write_tensor_data(tensor.data())
    finally:
        writer.close()


@dataclass(frozen=True)
class _Planned:
    """A tensor of the file.

    Attributes:
        name: Its name in GGUF.
        shape: Its shape, which no change changes.
        kind: How it is stored.
        load: Returns it as it is to be stored, before that.
    """

    name: str
    shape: tuple[int, ...]
    kind: "GGMLQuantizationType"
    load: Any

    def announce(self, writer: "GGUFWriter") -> None:
        """Write its place in the file's header."""
        import numpy as np
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        block, size_bytes = GGML_QUANT_SIZES[self.kind]
        row_bytes = self.shape[-1] // block * size_bytes
        rows = 1
        for size in self.shape[:-1]:
            rows *= size
        if self.kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
            dtype = np.dtype("float32" if self.kind == GGMLQuantizationType.F32 else "float16")
            writer.add_tensor_info(self.name, self.shape, dtype, rows * row_bytes)
            return
        stored = (*self.shape[:-1], row_bytes)
        writer.add_tensor_info(
            self.name, stored, np.dtype("uint8"), rows * row_bytes, raw_dtype=self.kind
        )

    def data(self) -> "np.ndarray":
        """Return its bytes as they are stored.

        Raises:
            ConfigurationError: A value is too large for float16.
        """
        import torch
        from gguf import GGMLQuantizationType, quants

        tensor: torch.Tensor = self.load().float().contiguous()
        largest = float(tensor.abs().max()) if tensor.numel() else 0.0
        if self.kind != GGMLQuantizationType.F32 and largest > torch.finfo(torch.float16).max:
            raise ConfigurationError(
                f"{self.name} has a value of {largest:g}, which float16 cannot hold: export with "
                "--quantize f32"
            )
        return quants.quantize(tensor.numpy(), self.kind)


def _planned(
    weights: Path, config: Any, architecture: Architecture, quantize: Quantization
) -> Iterator[_Planned]:
    """Yield the tensors of the file.

    Raises:
        ConfigurationError: GGUF has no place for one.
    """
    from gguf import GGMLQuantizationType

    names = tensor_names(architecture, config)
    is_tied = config.tie_word_embeddings
    for found in (each for file in tensors.shards(weights) for each in tensors.read_header(file)):
        if found.name.endswith(_NOT_WEIGHTS) or (is_tied and found.name in _OUTPUT):
            continue
        name = names(found.name)
        if name is None:
            raise ConfigurationError(
                f"a GGUF file of this {config.model_type} cannot be written: the architecture "
                f"{architecture.name} has no place for {found.name}; export it as hf"
            )
        change = architecture.change(found.name, config)
        kind = _kind(found.shape, quantize)
        planned = _Planned(name, found.shape, kind, _loading(found, change))
        yield planned
        if is_tied and architecture.needs_output and found.name.endswith(_EMBEDDINGS):
            yield _Planned("output.weight", found.shape, kind, planned.load)
    for name, tensor in architecture.computed(config).items():
        yield _Planned(name, tuple(tensor.shape), GGMLQuantizationType.F32, lambda t=tensor: t)


def tensor_names(architecture: Architecture, config: Any) -> Callable[[str], str | None]:
    """Return what gives GGUF's name of a tensor of transformers', or None."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    arch = next(key for key, value in MODEL_ARCH_NAMES.items() if value == architecture.name)
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    return lambda name: names.get_name(name, try_suffixes=(".weight", ".bias"))


def _loading(found: tensors.Tensor, change: Any) -> Any:
    """Return what reads a tensor and changes it."""

    def load() -> "torch.Tensor":
        from safetensors import safe_open

        with safe_open(found.file, framework="pt") as opened:
            tensor = opened.get_tensor(found.name)
        return change.apply(tensor) if change else tensor

    return load


def _kind(shape: tuple[int, ...], quantize: Quantization) -> "GGMLQuantizationType":
    """Return how a tensor is stored: vectors exactly, and rows that make no blocks in float16."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) < 2:
        return GGMLQuantizationType.F32
    kind = GGMLQuantizationType[quantize.upper()]
    return kind if shape[-1] % GGML_QUANT_SIZES[kind][0] == 0 else GGMLQuantizationType.F16


def _add_types(writer: "GGUFWriter", quantize: Quantization) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    types = {
        "f32": LlamaFileType.ALL_F32,
        "f16": LlamaFileType.MOSTLY_F16,
        "q8_0": LlamaFileType.MOSTLY_Q8_0,
    }
    writer.add_file_type(types[quantize])
    writer.add_quantization_version(GGML_QUANT_VERSION)
