"""Fused kernels, used where they are installed and never required: FlashAttention 3 and Liger.

FlashAttention 2 is part of torch, and `packing/attention.py` uses it by default.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from dolly_assets.training.packing import attention
from dolly_assets.training.packing.layout import Layout

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer, TrainingArguments

_HOPPER = 9  # FlashAttention 3 is for this generation: https://github.com/Dao-AILab/flash-attention
# Liger's losses would compute what is not needed, and not the loss of each token, which is kept:
# logits are computed for labelled tokens only, in chunks (`packing/chunks.py`).
_LIGER = {"fused_linear_cross_entropy": False, "cross_entropy": False}


def use_fused_kernels(arguments: "TrainingArguments") -> None:
    """Turn on the kernels that are installed and fit the device; on CPUs there are none."""
    import torch

    if arguments.device.type != "cuda":
        return
    if (
        find_spec("flash_attn_interface")
        and torch.cuda.get_device_capability(arguments.device)[0] == _HOPPER
    ):
        torch.nn.attention.activate_flash_attention_impl("FA3")
    if find_spec("liger_kernel"):
        arguments.use_liger_kernel, arguments.liger_kernel_config = True, dict(_LIGER)


def describe(trainer: "Trainer", layout: Layout) -> str:
    """Describe the kernels in use for the log, such as `FlashAttention 2 per example, Liger`.

    Where examples could not be laid out as the recipe prefers, the description says why.
    """
    import torch

    model = cast("PreTrainedModel", trainer.model)
    arguments = trainer.args
    if not layout.packed:
        found = f"{layout.attention} attention, padded"
    elif layout.is_own_attention:
        found = f"{layout.attention} attention, masked between examples"
    elif attention.has_flash(arguments.device, model.dtype):
        is_third = torch.nn.attention.current_flash_attention_impl() == "FA3"
        found = f"FlashAttention {3 if is_third else 2} per example"
    else:
        found = "SDPA per example"
    if arguments.use_liger_kernel:
        found += ", Liger"
    if layout.full_logits:
        found += f", all logits of labelled tokens at once, since {layout.full_logits}"
    if layout.refused:
        found += f", since others are not exact: {layout.reason}"
    return found
