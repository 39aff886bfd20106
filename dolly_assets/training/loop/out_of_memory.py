"""Recognizing errors that mean too little memory, and what to change in the recipe then.

It sees errors and recipes, never a device.
"""

import errno
from collections.abc import Iterator

from dolly_assets.training.recipe import Recipe

# Messages of torch's allocators (CPU and CUDA), of cuBLAS and of the C++ library.
_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
)
ADVICE_COUNT = 3


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, means that memory ran out."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return True
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return True
        if isinstance(cause, RuntimeError) and any(message in str(cause) for message in _MESSAGES):
            return True
        cause = cause.__cause__
    return False


def what_to_change(recipe: Recipe) -> str:
    """Return up to three changes of this recipe that need less memory, with their values."""
    changes = [change for change, _ in zip(_changes(recipe), range(ADVICE_COUNT), strict=False)]
    return f"change one of: {'; '.join(changes)}"


def _changes(recipe: Recipe) -> Iterator[str]:
    """Yield what to change, starting with what costs the least time."""
    smaller = [
        size for size in range(1, recipe.micro_batch_size) if recipe.micro_batch_size % size == 0
    ]
    if smaller:
        yield f"recipe.micro_batch_size from {recipe.micro_batch_size} to {smaller[-1]}"
    if not recipe.gradient_checkpointing:
        yield "recipe.gradient_checkpointing to true"
    if recipe.zero_stage < 3:
        stage = recipe.zero_stage
        yield f"recipe.zero_stage from {stage} to {stage + 1}, with several ranks"
    if recipe.precision == "fp32":
        yield "recipe.precision from fp32 to bf16"
    yield f"recipe.max_length from {recipe.max_length} to {max(8, recipe.max_length // 2)}"
    yield "recipe.deepspeed to offload_optimizer, which uses host memory instead"
    yield "compute.gpus or compute.cpu_ranks to a larger number"
