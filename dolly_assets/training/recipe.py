"""The recipe of a fine-tune: every hyper-parameter that determines the result.

It knows nothing of machines. How many devices share the work is stated under `compute`; the global
batch, and with it the result, is the same on any number of them.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from dolly_assets.core.base import Config
from dolly_assets.core.errors import TrainingError
from dolly_assets.core.hashing import json_digest
from dolly_assets.training import presets
from dolly_assets.training.deepspeed.settings import DeepSpeedSettings
from dolly_assets.training.loop.early_stopping import EarlyStopping
from dolly_assets.training.loop.guards import GuardSettings
from dolly_assets.training.lora import LoraSettings


class GradientCheckpointing(Config):
    """Which activations are recomputed in the backward pass, and where the others are kept."""

    every: int = Field(
        default=1, ge=1, description="Recompute every n-th layer; the others keep theirs."
    )
    offload: bool = Field(
        default=False,
        description="Whether to keep the inputs of recomputed layers in host memory, which makes "
        "steps slower.",
    )


class Recipe(Config):
    """Hyper-parameters of a fine-tune. All epochs of one training share one recipe."""

    epochs: int = Field(
        ge=1,
        le=99,
        description="Number of epochs that can be requested, as partition keys 01 to epochs.",
    )
    max_length: int = Field(
        ge=8,
        description="Length of the longest row in tokens; longer examples are dropped and counted, "
        "never truncated.",
    )
    packing: bool | Literal["required"] = Field(
        default=True,
        description="Whether several examples share a row, up to max_length. Where a model would "
        "mix them, they are padded instead; `required` refuses such a model.",
    )
    held_out_examples: int = Field(
        ge=1, description="Number of examples that are kept from training, to score every epoch."
    )
    global_batch_size: int = Field(
        ge=1, description="Rows per optimizer step, over all devices together."
    )
    micro_batch_size: int = Field(ge=1, description="Rows per forward pass of one device.")
    learning_rate: float = Field(gt=0, allow_inf_nan=False, description="Peak learning rate.")
    scheduler: Literal["constant", "linear", "cosine"] = Field(
        default="constant",
        description="Shape of the learning rate after warm-up; linear and cosine reach 0 at the "
        "end of the last epoch.",
    )
    warmup_steps: int = Field(
        default=0, ge=0, description="Number of optimizer steps of linear warm-up from 0."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Decoupled weight decay of AdamW."
    )
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's first-moment decay.")
    adam_beta2: float = Field(default=0.999, ge=0, lt=1, description="AdamW's second-moment decay.")
    adam_epsilon: float = Field(default=1e-8, gt=0, description="AdamW's denominator term.")
    max_grad_norm: float = Field(
        default=1.0, ge=0, description="Norm to which gradients are clipped; 0 turns clipping off."
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="bf16", description="Floating-point format of the training."
    )
    tf32: bool = Field(
        default=False,
        description="Whether GPUs of the Ampere generation or newer may multiply float32 in TF32, "
        "which is several times faster and keeps 10 bits of each factor's mantissa; with precision "
        "fp32 only.",
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        default=3,
        description="What ZeRO shards over the devices: nothing (0), the optimizer (1), also the "
        "gradients (2), also the weights (3).",
    )
    gradient_precision: Literal["fp32", "bf16"] | None = Field(
        default=None,
        description="Floating-point format in which gradients are summed and exchanged with "
        "precision bf16: fp32 by default, and bf16 with zero_stage 0, which has no other.",
    )
    gradient_checkpointing: bool | GradientCheckpointing = Field(
        default=False,
        description="Whether to recompute activations in the backward pass, which saves memory and "
        "takes about 30 % more time; or `every` how many layers, and whether to `offload`.",
    )
    loss: Literal["chunked", "full"] = Field(
        default="chunked",
        description="How the loss of labelled tokens is computed: in chunks, which keeps memory "
        "from growing with the vocabulary, or from all of their logits at once. The results are "
        "equal but for rounding.",
    )
    seed: int = Field(
        default=42,
        ge=0,
        lt=2**32,
        description="Seed of the split, the order of examples, dropout and new weights.",
    )
    deepspeed: DeepSpeedSettings = Field(
        default_factory=DeepSpeedSettings,
        description="The name of a preset, or DeepSpeed's own settings; they override what follows "
        "from this recipe.",
    )
    lora: LoraSettings | None = Field(
        default=None,
        description="Settings of an adapter to train, instead of the base model's own weights.",
    )
    guards: GuardSettings = Field(
        default_factory=GuardSettings, description="What to do when training looks wrong."
    )
    early_stopping: EarlyStopping | None = Field(
        default=None,
        description="When to end before the last requested epoch; the held-out loss is then "
        "computed at the end of every epoch.",
    )

    @model_validator(mode="before")
    @classmethod
    def _preset_decides(cls, values: Any) -> Any:
        name = values.get("deepspeed") if isinstance(values, Mapping) else None
        return {**presets.load(name).decided, **values} if name in presets.names() else values

    @field_validator("deepspeed", mode="before")
    @classmethod
    def _of_a_preset(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        preset = presets.load(value)
        for key, decided in preset.decided.items():
            if key in info.data and info.data[key] != decided:
                raise ValueError(
                    f"the preset {value} is for {key} {decided}, and the recipe has "
                    f"{info.data[key]}: leave {key} out, or name another preset"
                )
        return preset.deepspeed

    @field_validator("deepspeed")
    @classmethod
    def _fits_the_stage(
        cls, settings: DeepSpeedSettings, info: ValidationInfo
    ) -> DeepSpeedSettings:
        zero, stage = settings.zero_optimization, info.data.get("zero_stage", 3)
        for name, moved, least in (
            ("offload_optimizer", zero.offload_optimizer, 1),
            ("offload_param", zero.offload_param, 3),
        ):
            if moved and moved.device != "none" and stage < least:
                raise ValueError(
                    f"zero_optimization.{name} needs a recipe.zero_stage of at least {least}, "
                    f"found {stage}"
                )
        return settings

    @field_validator("tf32")
    @classmethod
    def _is_float32(cls, value: bool, info: ValidationInfo) -> bool:
        precision = info.data.get("precision")
        if value and precision != "fp32":
            raise ValueError(
                f"TF32 multiplies float32, and the recipe has precision {precision}: leave tf32 "
                "out, or set precision fp32"
            )
        return value

    @field_validator("gradient_precision")
    @classmethod
    def _fits_the_precision(cls, value: str | None, info: ValidationInfo) -> str | None:
        precision, stage = info.data.get("precision"), info.data.get("zero_stage")
        if value and precision != "bf16":
            raise ValueError(
                f"gradients follow from precision {precision}: leave it out, or set precision bf16"
            )
        if value == "fp32" and stage == 0:
            raise ValueError(
                "DeepSpeed has no float32 gradients for bf16 at zero_stage 0: set zero_stage 1"
            )
        return value

    @field_validator("lora")
    @classmethod
    def _can_be_copied(
        cls, value: LoraSettings | None, info: ValidationInfo
    ) -> LoraSettings | None:
        if value and value.modules_to_save and info.data.get("zero_stage") == 3:
            raise ValueError(
                "modules_to_save are copied when the model is loaded, and zero_stage 3 shards them "
                "before that: set zero_stage 2, or leave modules_to_save out"
            )
        return value

    @model_validator(mode="after")
    def _batches_divide(self) -> "Recipe":
        if self.global_batch_size % self.micro_batch_size:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} must be a multiple of "
                f"micro_batch_size {self.micro_batch_size}"
            )
        return self

    @property
    def digest(self) -> str:
        """SHA-256 over what determines the weights.

        That excludes guards, early stopping, how the loss is computed and, with a constant learning
        rate, the number of epochs.
        """
        return json_digest(self._with_effect())

    @property
    def has_float32_gradients(self) -> bool:
        """Whether gradients are summed and exchanged in float32 though weights are in bf16."""
        return _has_float32_gradients(self.model_dump(include=_DECIDES_GRADIENTS))

    def settings(self) -> dict[str, Any]:
        """Return the recipe in the form that names trainings.

        Settings that version 0.1.0 did not have are left out where they mean what it did, so that
        its trainings keep their names.
        """
        return _as_of_0_1(self.model_dump())

    def changes_since(self, before: Mapping[str, Any]) -> list[str]:
        """Return what determines the weights and has changed, such as `recipe.seed from 1 to 2`.

        Args:
            before: An earlier recipe, as JSON.
        """
        earlier, now = _as_of_0_1(_packed_or_not(before)), self._with_effect("json")
        absent = {"gradient_precision": "bf16", "tf32": False}
        pairs = {
            key: [settings.get(key, absent.get(key)) for settings in (earlier, now)]
            for key in Recipe.model_fields
            if key not in self._without_effect
        }
        return [
            f"recipe.{key} from {json.dumps(old)} to {json.dumps(new)}"
            for key, (old, new) in pairs.items()
            if old != new
        ]

    def _with_effect(self, mode: Literal["json", "python"] = "python") -> dict[str, Any]:
        """Return the settings that affect the weights."""
        settings = _packed_or_not(_as_of_0_1(self.model_dump(mode=mode)))
        return {key: settings[key] for key in settings if key not in self._without_effect}

    @property
    def _without_effect(self) -> set[str]:
        """The settings that do not affect the weights."""
        without = {"guards", "early_stopping", "loss"}
        return without | {"epochs"} if self.scheduler == "constant" else without

    def accumulation_steps(self, ranks: int) -> int:
        """Return the number of micro-batches per optimizer step and rank.

        Raises:
            TrainingError: This number of ranks cannot share the global batch equally.
        """
        per_pass = self.micro_batch_size * ranks
        if self.global_batch_size % per_pass:
            raise TrainingError(
                f"global_batch_size {self.global_batch_size} cannot be shared by {ranks} ranks at "
                f"micro_batch_size {self.micro_batch_size}: it must be a multiple of {per_pass}; "
                "change one of the three"
            )
        return self.global_batch_size // per_pass


def _packed_or_not(values: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce a recipe's `packing` to a boolean: requiring it does not affect the weights."""
    return {**values, "packing": bool(values.get("packing", True))}


_DECIDES_GRADIENTS = {"precision", "zero_stage", "gradient_precision"}


def _has_float32_gradients(settings: Mapping[str, Any]) -> bool:
    chosen = settings.get("gradient_precision") or "fp32"
    return settings["precision"] == "bf16" and settings["zero_stage"] > 0 and chosen == "fp32"


def _as_of_0_1(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe without later settings where they mean what 0.1.0 did.

    Args:
        settings: The recipe as plain values. Where the keys are missing, it was stored by 0.1.0.
    """
    later = {"gradient_precision", "loss"}
    kept = {key: value for key, value in settings.items() if key not in later}
    if "gradient_precision" in settings and _has_float32_gradients(settings):
        kept["gradient_precision"] = "fp32"
    if not kept.get("tf32"):
        kept.pop("tf32", None)
    if kept.get("early_stopping") is None:
        kept.pop("early_stopping", None)
    if lora := kept.get("lora"):
        later_ones = ("train_new_tokens", "rslora", "dora", "modules_to_save")
        off = {name for name in later_ones if not lora.get(name)}
        kept["lora"] = {key: lora[key] for key in lora if key not in off}
    return kept
