"""The format `hf`: whole weights with their tokenizer, as `from_pretrained` and vLLM load them.

The folder holds what servers prompt the model with: the chat template, and the tokens that end an
answer.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import BaseModelError
from dolly_assets.exporting.model import ExportedModel
from dolly_assets.exporting.older_readers import portable_config, portable_tokenizer_config
from dolly_assets.training.lora.merge import write_merged
from dolly_assets.training.weights_files import is_model_file

if TYPE_CHECKING:
    from dolly_assets.tokenization.templates.encoder import Encoder

TEMPLATE_FILE = "chat_template.jinja"
GENERATION_FILE = "generation_config.json"


def write_folder(model: ExportedModel, out: Path) -> None:
    """Write a model's whole weights, an adapter merged in, into a folder.

    Args:
        model: What to write.
        out: A folder that does not exist, or is empty; after an error it is not whole.

    Raises:
        BaseModelError: The adapter does not belong to the weights.
        ConfigurationError: The folder should carry a template and does not.
        TemplateError: The template cannot be used.
        OSError: The disk is full, or the folder cannot be written.
    """
    if model.adapter:
        write_merged(model.adapter, model.weights, out)
        _rewrite(out / "config.json", portable_config)
    else:
        copy_weights(model.weights, out)
    complete_tokenizer(model, out)


def complete_tokenizer(model: ExportedModel, out: Path) -> None:
    """Have a folder with a tokenizer carry the template and the stop tokens of the model.

    Args:
        model: Whose template it is.
        out: With the tokenizer's files.
    """
    encoder, tokenizer = encoder_of(model, out)
    (out / TEMPLATE_FILE).write_text(encoder.template.text, encoding="utf-8")
    _rewrite(out / "tokenizer_config.json", portable_tokenizer_config)
    stops = stop_token_ids(encoder, tokenizer)
    (out / GENERATION_FILE).touch()
    _rewrite(
        out / GENERATION_FILE,
        lambda config: {
            "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            **config,
            "eos_token_id": stops[0] if len(stops) == 1 else stops,
        },
    )


def stop_token_ids(encoder: "Encoder", tokenizer: Any) -> list[int]:
    """Return the ids at which an answer ends: those of the template, and the tokenizer's own."""
    own = [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else []
    return list(dict.fromkeys([*encoder.end_token_ids, *own]))


def encoder_of(model: ExportedModel, folder: Path) -> tuple["Encoder", Any]:
    """Return the encoder of a model's template, and the tokenizer in a folder.

    Raises:
        ConfigurationError: The folder should carry a template and does not.
        TemplateError: The template cannot be used.
    """
    from transformers import AutoTokenizer

    from dolly_assets.tokenization.templates.encoder import encoder_for
    from dolly_assets.tokenization.templates.template import carried

    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return encoder_for(tokenizer, carried(model.template, model.style, tokenizer)), tokenizer


def copy_weights(weights: Path, out: Path) -> None:
    """Copy the files that loaders read, and no others; any version reads the configuration.

    Raises:
        BaseModelError: There are no weights.
    """
    found = [file for file in sorted(weights.rglob("*")) if file.is_file()]
    paths = [file.relative_to(weights) for file in found]
    wanted = [path for path in paths if is_model_file(path.as_posix())]
    if not any(path.suffix == ".safetensors" for path in wanted):
        raise BaseModelError(f"{weights} holds no weights: expected *.safetensors")
    for path in wanted:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights / path, out / path)
    _rewrite(out / "config.json", portable_config)


def _rewrite(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change a JSON file; one that is empty counts as an empty object."""
    before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8") or "{}")
    changed = {key: value for key, value in change(before).items() if value is not None}
    text = json.dumps(changed, indent=2, ensure_ascii=False) + "\n"
    file.write_text(text, encoding="utf-8")
