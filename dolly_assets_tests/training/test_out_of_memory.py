"""Errors that mean too little memory are told apart from bugs, and the advice fits the recipe."""

import pytest

from dolly_assets.training.loop.out_of_memory import is_out_of_memory, what_to_change
from dolly_assets_tests.tiny_training import tiny_family


def test_torchs_own_error_on_the_cpu_is_known() -> None:
    import torch

    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


def test_torchs_error_on_a_gpu_is_known_also_as_a_cause() -> None:
    import torch

    error = ValueError("loading failed")
    error.__cause__ = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert is_out_of_memory(error)


def test_a_bug_is_not_want_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shape '[2, 3]' is invalid for input of size 5"))


def test_the_advice_names_three_settings_with_their_values() -> None:
    assert what_to_change(tiny_family(micro_batch_size=4).recipe) == (
        "change one of: recipe.micro_batch_size from 4 to 2; "
        "recipe.gradient_checkpointing to true; "
        "recipe.zero_stage from 1 to 2, with several ranks"
    )
    tight = tiny_family(
        micro_batch_size=1, gradient_checkpointing=True, zero_stage=3, precision="bf16"
    ).recipe
    assert what_to_change(tight).startswith(
        "change one of: recipe.max_length from 96 to 48; recipe.deepspeed to "
    )
