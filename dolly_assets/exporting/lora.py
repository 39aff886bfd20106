"""The format `lora`: an adapter in peft's form, with the base model that it belongs to.

The base model is beside it unless it can be had from the Hub as it was trained on: a prepared base
model often has tokens that the published one lacks.
"""

import json
import shutil
from pathlib import Path

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.exporting.huggingface import complete_tokenizer, copy_weights
from dolly_assets.exporting.model import ExportedModel
from dolly_assets.training.lora import ADAPTER_CONFIG
from dolly_assets.training.weights_files import is_adapter_file

BASE = "base_model"


def write_folder(model: ExportedModel, out: Path) -> None:
    """Write an adapter and, unless the Hub has it, its base model.

    Args:
        model: A base model with an adapter.
        out: The folder to write to.

    Raises:
        ConfigurationError: The model has no adapter.
        OSError: The disk is full, or the folder cannot be written.
    """
    if model.adapter is None:
        raise ConfigurationError(
            "lora: all weights of this model were trained, so it has no adapter: export it as hf"
        )
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(model.adapter.iterdir()):
        if is_adapter_file(file.name):
            shutil.copyfile(file, out / file.name)
    complete_tokenizer(model, out)
    if model.base is None:
        copy_weights(model.weights, out / BASE)
    config = json.loads((out / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = model.base or BASE
    if model.base and model.base_revision:
        config["revision"] = model.base_revision
    (out / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
