"""The YAML of a new family, with the reasons of each choice as comments."""

import os
import tempfile
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.names import check_family_name
from dolly_assets.core.text import memory_size
from dolly_assets.family import FamilyAttributes
from dolly_assets.planning.prices import Prices
from dolly_assets.planning.text import sentence
from dolly_assets.scaffolding.bases import Base, find_base
from dolly_assets.scaffolding.choice import PLANNED_TOKENS, Choice, choose
from dolly_assets.training.base_model.config import is_path

DEFS_FILE = "defs.yaml"
_TYPE = "dolly_assets.components.ModelFamilyComponent"
_MEMORY_STEP_GIB = 16
_CPUS_PER_GPU = 8
_WIDTH = 100


@dataclass(frozen=True)
class NewFamily:
    """What a new family is made of.

    Attributes:
        base: A Hub id, or a folder.
        dataset: The dataset that it is made for.
        device: The kind of GPU.
        gpus: How many of them.
        license_id: The licence of the base model, where it is not known.
        prices: What GPU-hours cost.
    """

    base: str
    dataset: str
    device: str
    gpus: int = 1
    license_id: str | None = None
    prices: Prices = field(default_factory=Prices.read)

    def yaml(self) -> str:
        """Return the content of its defs.yaml.

        Raises:
            BaseModelError: The base model cannot be read, or cannot be fine-tuned.
            ConfigurationError: The device is not known.
            TrainingError: No way to train it fits; the text is the plan's.
        """
        source = str(Path(self.base).expanduser().resolve()) if is_path(self.base) else self.base
        base = find_base(source, self.license_id)
        chosen = choose(base, device=self.device, gpus=self.gpus, prices=self.prices)
        return _text(base, self.dataset, chosen)


def write_family(folder: Path, new: NewFamily) -> str:
    """Write a new family's YAML, and return it; nothing is written unless it is right.

    Args:
        folder: The family's folder, whose name is the family's.
        new: What it is made of.

    Raises:
        ConfigurationError: The name is not allowed or taken, or the folder cannot be written.
        BaseModelError: The base model cannot be read, or cannot be fine-tuned.
        TrainingError: No way to train it fits.
    """
    check_family_name(folder.name)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} already exists: choose another name")
    text = new.yaml()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).rename(folder / DEFS_FILE)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename or folder}: {error.strerror}: set DOLLY_DEFS to a folder for families"
        ) from error
    return text


def _text(base: Base, dataset: str, chosen: Choice) -> str:
    """Return the YAML, which is validated as Dagster will."""
    attributes: dict[str, Any] = {
        "description": f"{base.source.rsplit('/', 1)[-1]}, fine-tuned on {dataset}.",
        "dataset": dataset,
        "base_model": {"source": base.source, "license": base.license},
        **({"template": "base"} if base.has_template else {}),
        "recipe": chosen.settings,
        "compute": _compute(chosen),
    }
    FamilyAttributes.model_validate(attributes)
    reasons = _reasons(base, chosen)
    lines = [*_comment(f"By the plan: {sentence(chosen.plan)}."), *_comment(_assumed()), ""]
    lines += [f"type: {_TYPE}", "", "attributes:"]
    for key, value in attributes.items():
        if not isinstance(value, dict):
            lines += _comment(reasons.get(key, ""), "  ")
            lines.append(f"  {key}: {_scalar(value)}")
            continue
        lines.append(f"  {key}:")
        for name, each in value.items():
            lines += _comment(reasons.get(name, ""), "    ")
            lines.append(f"    {name}: {_scalar(each)}")
    return "\n".join(lines) + "\n"


def _assumed() -> str:
    return (
        f"Time and price are for {PLANNED_TOKENS // 10**6} million tokens per epoch, in full rows; "
        "`dolly plan` computes them for a dataset that is tokenized."
    )


def _compute(chosen: Choice) -> dict[str, Any]:
    needed = chosen.plan.host_needed_bytes / 2**30
    machines = chosen.plan.machines
    return {
        "device": machines.device,
        "gpus": machines.ranks,
        "cpus": _CPUS_PER_GPU * machines.ranks,
        "memory_gib": _MEMORY_STEP_GIB * (int(needed / _MEMORY_STEP_GIB) + 1),
    }


def _reasons(base: Base, chosen: Choice) -> dict[str, str]:
    """Return why the settings are as they are, by key."""
    recipe, planned, shape = chosen.recipe, chosen.plan, base.shape
    device = planned.machines.device
    size = f"{shape.parameters / 1e9:.2f} billion parameters"
    used = f"{memory_size(planned.needed_bytes)} of {memory_size(planned.available_bytes or 0)}"
    context = shape.context.tokens if shape.context else None
    return {
        "source": f"{size}. {base.note}".strip(),
        "license": "State its licence; checks refuse what is unknown for commercial use."
        if base.license == "unknown"
        else "",
        "template": "The chat template that it came with, so that every server prompts it alike.",
        "max_length": f"Of {context:,} tokens that it was made for; longer rows take more memory."
        if context
        else "",
        "precision": f"The fastest format of {device} for training.",
        "packing": "Examples cannot share rows in this model.",
        "micro_batch_size": f"The largest that fits: {used} per GPU.",
        "zero_stage": _of_stage(recipe, planned.machines.ranks),
        "gradient_checkpointing": "Without it, not even one row per GPU fits.",
        "lora": f"All weights do not fit: they take 16 to 18 bytes for each of {size}.",
        "learning_rate": "Adapters take a higher rate than all weights."
        if recipe.lora
        else "Usual for all weights of an instruction-tuned model.",
        "memory_gib": "Host memory for libraries and loading weights, by the plan.",
    }


def _of_stage(recipe: Any, ranks: int) -> str:
    if ranks == 1:
        return "With one GPU there is nothing to share."
    shared = {1: "the optimizer", 2: "optimizer and gradients", 3: "everything"}[recipe.zero_stage]
    return f"The lowest stage that fits: the GPUs share {shared}."


def _comment(text: str, indent: str = "") -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix)


def _scalar(value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_scalar(each)}" for key, each in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa}e{int(exponent)}" if value < 0.01 else str(value)
    if isinstance(value, str):
        import yaml

        return (
            yaml.safe_dump(value, width=10_000, allow_unicode=True).removesuffix("\n...\n").strip()
        )
    return str(value)
