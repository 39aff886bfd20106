"""Models and tokenizers from the Hub, a local folder or a GGUF file.

Only safetensors and plain tensors are loaded, and no code from a repository is run.
"""

import contextlib
import io
import os
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import BaseModelError
from dolly_assets.core.git_lfs import pointer_problem
from dolly_assets.core.urls import without_secrets

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def resolve_commit(hub_id: str, revision: str | None) -> str:
    """Return the commit of a revision, so that weights and tokenizer come from the same one.

    Raises:
        BaseModelError: The Hub has no such repository or revision, or cannot be reached.
    """
    from huggingface_hub import resolve_revision

    try:
        return resolve_revision(hub_id, revision=revision).resolved
    except Exception as error:  # the Hub client's errors share no base class
        raise BaseModelError(
            f"{hub_id}: cannot be downloaded from the Hub ({reason(error)}); check the id, the "
            "revision and the network, set HF_TOKEN for a gated or private model, or name a "
            "local folder that has it, such as ./model"
        ) from error


def load_path(path: Path) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    """Load a model and its tokenizer from a local folder or a GGUF file.

    Raises:
        BaseModelError: Nothing is there, or it is not a causal language model with a tokenizer.
    """
    if not path.exists():
        raise BaseModelError(
            f"{path}: no such file or folder; relative paths count from the YAML file's folder"
        )
    if path.suffix == ".gguf" and path.is_file():
        return _load_gguf(path)
    _check_folder(path)
    return load(str(path))


def load(
    source: str,
    *,
    gguf_file: Path | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    """Load a causal language model, whole and unquantized, with its tokenizer.

    Args:
        source: A Hub id, or a folder.
        gguf_file: A GGUF file in the folder, instead of the folder's own weights.
        revision: A commit, for a Hub id.
        local_files_only: Never connect to the Hub.

    Raises:
        BaseModelError: It is not a causal language model with all its weights, or is quantized.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, __version__

    shown = gguf_file or source
    where: dict[str, Any] = {
        "revision": revision,
        "local_files_only": local_files_only,
        "trust_remote_code": False,
    }
    weights: dict[str, Any] = {"dtype": "auto"}
    if gguf_file is not None:
        where["gguf_file"] = str(gguf_file)
        # float32 holds the dequantized values exactly; bfloat16 would round them again.
        weights = {"dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
    # Otherwise transformers asks the Hub to convert repositories without safetensors, in a thread
    # that outlives the call.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, **where, **weights, weights_only=True, output_loading_info=True
        )
    except Exception as error:  # a damaged file or a wrong configuration can raise anything
        raise BaseModelError(
            f"{shown}: transformers {__version__} cannot load this as a causal language model "
            f"({reason(error)})"
        ) from error
    model, loading = loaded
    _check_weights(model, loading, str(shown))
    return model, tokenizer


def reason(error: Exception) -> str:
    """Return the type and text of another library's error, for the brackets of our own."""
    return shorten(f"{type(error).__name__}: {without_secrets(str(error))}", 300)


def _check_weights(model: "PreTrainedModel", loading: dict[str, Any], shown: str) -> None:
    """Raise BaseModelError if transformers filled in weights, or left them quantized."""
    if lost := sorted(map(str, [*loading["missing_keys"], *loading["mismatched_keys"]])):
        raise BaseModelError(
            f"{shown}: not the weights of a {type(model).__name__}: {len(lost)} tensors are "
            f"missing or have another shape, such as {lost[0]}"
        )
    if getattr(model, "hf_quantizer", None) is not None:
        raise BaseModelError(
            f"{shown}: its weights are quantized and cannot be trained; name the original model"
        )


def _check_folder(folder: Path) -> None:
    """Raise BaseModelError unless the folder has a configuration, weights and a tokenizer."""
    if not folder.is_dir():
        raise BaseModelError(
            f"{folder}: expected a folder with a model in it, or a file ending in .gguf"
        )
    for patterns in (("config.json",), _WEIGHTS, _TOKENIZERS):
        if not any(file for pattern in patterns for file in folder.glob(pattern)):
            names = ", ".join(sorted(file.name for file in folder.iterdir()))
            raise BaseModelError(
                f"{folder}: not a model: {' or '.join(patterns)} is missing; "
                f"found {shorten(names, 200) or 'nothing'}"
            )
    for pattern in (*_WEIGHTS, *_TOKENIZERS):
        for file in folder.glob(pattern):
            _check_is_content(file)


def _check_is_content(file: Path) -> None:
    """Raise BaseModelError if a file of a clone stands for content that was not downloaded."""
    if problem := pointer_problem(file):
        raise BaseModelError(f"{file}: {problem}")


def _load_gguf(path: Path) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    _check_is_content(path)
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic != b"GGUF":
        raise BaseModelError(
            f"{path}: not a GGUF file: it begins with {magic!r} instead of b'GGUF'"
        )
    # Its progress bar is the one that the switch of transformers does not turn off.
    with contextlib.redirect_stderr(io.StringIO()):
        return load(str(path.parent), gguf_file=path.resolve())
