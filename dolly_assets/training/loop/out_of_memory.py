"""Telling want of memory from a bug, and what to change then.

It sees errors and recipes, never a device.
"""

import errno
from collections.abc import Iterator

from dolly_assets.training.recipe import Recipe

# How torch's allocators (CPU and CUDA), cuBLAS and the C++ library say it.
_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
)
ADVICE_COUNT = 3


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what caused it, is for want of memory."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return True
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return True
        if isinstance(cause, RuntimeError) and any(words in str(cause) for words in _WORDS):
            return True
        cause = cause.__cause__
    return False


def what_to_change(recipe: Recipe) -> str:
    """Three settings of this recipe that would take less memory, with their values."""
    changes = [change for change, _ in zip(_changes(recipe), range(ADVICE_COUNT), strict=False)]
    return f"change one of: {'; '.join(changes)}"


def _changes(recipe: Recipe) -> Iterator[str]:
    """What to change, the cheapest in time first."""
    smaller = [
        size for size in range(1, recipe.micro_batch_size) if recipe.micro_batch_size % size == 0
    ]
    if smaller:
        yield f"recipe.micro_batch_size from {recipe.micro_batch_size} to {smaller[-1]}"
    if not recipe.gradient_checkpointing:
        yield "recipe.gradient_checkpointing to true"
    if recipe.zero_stage < 3:
        yield f"recipe.zero_stage from {recipe.zero_stage} to {recipe.zero_stage + 1}, with several ranks"
    if recipe.precision == "fp32":
        yield "recipe.precision from fp32 to bf16"
    yield f"recipe.max_length from {recipe.max_length} to {max(8, recipe.max_length // 2)}"
    yield "recipe.deepspeed to offload_optimizer, which takes host memory instead"
    yield "compute.gpus or compute.cpu_ranks to more"
