"""A GGUF file's tensors read back into the model that it was written from.

So what a file lost is measured by the same code that computed the checkpoint's answers, for every
architecture. Whether llama.cpp understands the file is the business of `llama_cpp.py`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import ExportError
from dolly_assets.exporting.gguf_architectures import architecture_of
from dolly_assets.exporting.gguf_file import tensor_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def fill(model: "PreTrainedModel", file: Path) -> bool:
    """Give a model the weights of a GGUF file that was written from it.

    Returns:
        Whether they are exactly those that it had.

    Raises:
        ExportError: The file lacks one.
    """
    import torch
    from gguf import GGUFReader, quants

    config: Any = model.config.get_text_config()
    architecture = architecture_of(config)
    name_of = tensor_names(architecture, config)
    stored = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    is_exact = True
    with torch.no_grad():
        for name, weight in model.named_parameters():
            found = stored.get(name_of(name) or "")
            if found is None:
                raise ExportError(f"{file}: {name} is missing")
            values = quants.dequantize(found.data, found.tensor_type).copy()
            read = torch.from_numpy(values).reshape(weight.shape).to(weight.device)
            change = architecture.change(name, config)
            written = change.apply(weight) if change else weight
            is_exact = is_exact and torch.equal(read.to(written.dtype), written)
            weight.copy_(change.undo(read) if change else read)
    return is_exact
