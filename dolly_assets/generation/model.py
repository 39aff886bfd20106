"""Loading a model from a folder of weights, wherever the folder comes from."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dolly_assets.core.errors import BaseModelError, some_of
from dolly_assets.core.text import one_line
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.training.lora import with_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dolly_assets.tokenization.templates.encoder import Encoder


@dataclass(frozen=True)
class LoadedModel:
    """A model, and what turns conversations into its prompts.

    Attributes:
        model: The model, ready to generate.
        tokenizer: The one in its folder.
        encoder: The template that the folder carries, with this tokenizer.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    encoder: "Encoder"


def load_with_template(
    folder: Path,
    style: PromptStyle | None,
    *,
    template: str | None = None,
    adapter: Path | None = None,
) -> LoadedModel:
    """Load a model with the template that it was trained with.

    Args:
        folder: The weights folder.
        style: The wording of the template `dolly`; None for the one that the folder carries.
        template: The name of the template, as the model's attributes state it; None is `dolly`.
        adapter: A LoRA adapter of this model.

    Raises:
        BaseModelError: The folder does not hold a model.
        ConfigurationError: The folder should carry a template and does not.
        TemplateError: The template cannot be used.
    """
    from dolly_assets.tokenization.templates.encoder import encoder_for
    from dolly_assets.tokenization.templates.template import carried

    model, tokenizer = load(folder, adapter=adapter)
    encoder = encoder_for(tokenizer, carried(template, style, tokenizer))
    return LoadedModel(model, tokenizer, encoder)


def pick_device() -> str:
    """Return the fastest kind of device that PyTorch finds here: `cuda`, `mps` or `cpu`."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load(
    folder: Path, *, adapter: Path | None = None, dtype: str = "auto", device: str | None = None
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load a causal language model and its tokenizer, ready to generate.

    Only safetensors are read, no code from the folder is run, and nothing is downloaded. The
    folder's own generation settings are ignored, so that an answer depends only on the arguments of
    the call.

    Args:
        folder: A folder with config.json, *.safetensors and the tokenizer's files.
        adapter: A LoRA adapter of this model, to be merged into its weights.
        dtype: The name of a torch type, or `auto` for the one that the weights are stored in.
        device: Where to put the model; by default over all GPUs if there are several, and on
            `pick_device()` otherwise.

    Raises:
        BaseModelError: The folder does not hold a complete causal language model with a tokenizer.
    """
    from transformers import GenerationConfig

    _check_folder(folder)
    spread = device is None and _gpus() > 1
    model, tokenizer = _load(folder, dtype, spread=spread)
    rows = model.get_input_embeddings().get_parameter("weight").shape[0]
    if len(tokenizer) > rows:
        raise BaseModelError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens, the model embeds {rows}: "
            "resize the embeddings when you add tokens"
        )
    if adapter:
        model = with_adapter(model, adapter)
    model.generation_config = GenerationConfig()
    if not spread:
        model.to(device or pick_device())  # pyright: ignore[reportArgumentType]
    return model.eval(), tokenizer


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _check_folder(folder: Path) -> None:
    """Raise BaseModelError unless the folder has a configuration and safetensors."""
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else None
    raise BaseModelError(
        f"{folder} is not a weights folder: expected config.json and *.safetensors, found "
        f"{'no such folder' if names is None else some_of(names)}; name the weights/ folder of a "
        "checkpoint, or one that save_pretrained wrote"
    )


def _load(
    folder: Path, dtype: str, *, spread: bool
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load model and tokenizer, over all GPUs if asked.

    Raises:
        BaseModelError: That fails, weights are missing, or the GPUs are too small.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model, report = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **({"device_map": "auto"} if spread else {}),
        )
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise BaseModelError(
            f"{folder} does not load as a causal language model with a tokenizer: {one_line(error)}"
        ) from error
    if report["missing_keys"]:
        # Transformers would continue with random weights in their place.
        raise BaseModelError(
            f"{folder} lacks weights that its config.json requires: "
            f"{some_of(sorted(report['missing_keys']))}; the folder is incomplete, or config.json "
            "belongs to another model"
        )
    if any(weight.is_meta for weight in model.parameters()):
        raise BaseModelError(
            f"{folder} does not fit the memory of {_gpus()} GPUs: set compute.gpus to more, or "
            "load it in a smaller type"
        )
    return model, tokenizer
