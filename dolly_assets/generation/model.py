"""Loading a model from a folder of weights. It knows nothing of where the folder comes from."""

from pathlib import Path
from typing import TYPE_CHECKING

from dolly_assets.core.errors import BaseModelError
from dolly_assets.training.lora import with_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def pick_device() -> str:
    """The fastest kind of device that PyTorch sees here: `cuda`, `mps` or `cpu`."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load(
    folder: Path, *, adapter: Path | None = None, dtype: str = "auto", device: str | None = None
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load a causal language model and its tokenizer, ready to generate.

    Only safetensors are read, no code from the folder runs, and nothing is fetched. The folder's
    own generation settings are left out, so that an answer depends on what is asked for and on
    nothing else.

    Args:
        folder: config.json, *.safetensors and the tokenizer's files.
        adapter: of LoRA, and made for this model: what it adds is merged into the weights.
        dtype: a torch type's name, or `auto` for the one that the weights are stored in.
        device: where to put the model; without one, `pick_device()`.

    Raises:
        BaseModelError: the folder is not a whole causal language model with a tokenizer.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        found = (
            sorted(path.name for path in folder.iterdir()) if folder.is_dir() else "no such folder"
        )
        raise BaseModelError(
            f"{folder} is not a weights folder: expected config.json and *.safetensors, found {found}. "
            "Give the weights/ folder of a checkpoint, or a folder that save_pretrained wrote."
        )
    try:
        model, report = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise BaseModelError(
            f"{folder} does not load as a causal language model with a tokenizer: {error}"
        ) from error
    if report["missing_keys"]:
        # Transformers would go on with random weights in their place.
        raise BaseModelError(
            f"{folder} lacks the weights {sorted(report['missing_keys'])[:5]} that its config.json asks for. "
            "The folder is incomplete, or config.json is of another model."
        )
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise BaseModelError(
            f"The tokenizer in {folder} has {len(tokenizer)} tokens, the model embeds {rows}. "
            "Resize the embeddings when adding tokens."
        )
    if adapter:
        model = with_adapter(model, adapter)
    model.generation_config = GenerationConfig()
    placed: PreTrainedModel = model.to(device or pick_device())  # pyright: ignore[reportArgumentType]
    return placed.eval(), tokenizer
