"""Fused kernels, used where they are installed and never required: FlashAttention 3 and Liger.

FlashAttention 2 is part of torch, and `packing/attention.py` uses it by default.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from dolly_assets.training.packing import attention
from dolly_assets.training.seams import attention_implementation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer, TrainingArguments

_HOPPER = 9  # FlashAttention 3 is for this generation: https://github.com/Dao-AILab/flash-attention
# Liger's losses would compute what is not needed: logits are computed for labelled tokens only.
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


def describe(trainer: "Trainer", *, packing: bool) -> str:
    """Describe the kernels in use for the log, such as `FlashAttention 2 per example, Liger`."""
    import torch

    model = cast("PreTrainedModel", trainer.model)
    name, arguments = attention_implementation(model), trainer.args
    if name != attention.NAME:
        found = f"{name} attention, {'masked between examples' if packing else 'padded'}"
    elif attention.has_flash(arguments.device, model.dtype):
        is_third = torch.nn.attention.current_flash_attention_impl() == "FA3"
        found = f"FlashAttention {3 if is_third else 2} per example"
    else:
        found = "SDPA per example"
    return f"{found}, Liger" if arguments.use_liger_kernel else found
