"""Fused kernels that are there on this device and switched on, never required: FlashAttention 3 and Liger.

FlashAttention 2 is a part of torch, and `attention` takes it by itself.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from dolly_assets.training.packing import attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer, TrainingArguments

_HOPPER = 9  # FlashAttention 3 is for this generation: https://github.com/Dao-AILab/flash-attention
# Liger's losses would compute what isn't asked for: logits are taken for labelled tokens only.
_LIGER = {"fused_linear_cross_entropy": False, "cross_entropy": False}


def use_fused_kernels(arguments: "TrainingArguments") -> None:
    """Switches on what is installed and fits the device; on a CPU there is nothing to switch on."""
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
    """The kernels in use, in a few words."""
    import torch

    model = cast("PreTrainedModel", trainer.model)
    name, arguments = model.config._attn_implementation, trainer.args
    if name != attention.NAME:
        found = f"{name} attention, {'masked between examples' if packing else 'padded'}"
    elif attention.has_flash(arguments.device, model.dtype):
        found = f"FlashAttention {3 if torch.nn.attention.current_flash_attention_impl() == 'FA3' else 2} per example"
    else:
        found = "SDPA per example"
    return f"{found}, Liger" if arguments.use_liger_kernel else found
