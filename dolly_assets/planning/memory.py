"""Memory of a training by purpose, from published formulas.

It knows of machines only their number of ranks, and nothing of the store.

Model states follow ZeRO (Rajbhandari et al., 2020, https://arxiv.org/abs/1910.02054, section 3.1)
and agree with DeepSpeed's own estimators (https://deepspeed.readthedocs.io/en/latest/memory.html).
What those leave out follows Korthikanti et al., 2022 (https://arxiv.org/abs/2205.05198, section
4.1), without the attention scores, which are never stored, and with the output layer on labelled
tokens only, in chunks of them.
"""

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.text import count, memory_size
from dolly_assets.planning.model_shape import ModelShape
from dolly_assets.training.packing.chunks import chunk_rows
from dolly_assets.training.recipe import GradientCheckpointing, Recipe

GIB = 2**30
# The factor by which DeepSpeed's estimators multiply host memory.
HOST_FACTOR = 1.5
# The CUDA context, the workspaces of cuBLAS and the buffers of NCCL, as nvidia-smi shows them on an
# A100 for a process that holds no tensor yet: a fixed sum from experience.
CUDA_BYTES = int(1.25 * GIB)
# PyTorch's allocator keeps blocks that are too small for any request.
FRAGMENTATION = 0.05
# Resident size of a rank that has imported torch, transformers and DeepSpeed, and trained nothing:
# an assumption.
RANK_BYTES = int(0.75 * GIB)
# Special tokens of a prompt style that a base model may not have.
_NEW_TOKENS = 3


class MemoryPart(Config):
    """Memory for one purpose."""

    name: str = Field(description="The purpose.")
    size_bytes: int = Field(ge=0, description="Size in bytes.")
    source: str = Field(description="The formula, or the assumption.")


def element_bytes(recipe: Recipe) -> int:
    """Return the bytes of a weight, a gradient or an activation."""
    return 4 if recipe.precision == "fp32" else 2


def gradient_bytes(recipe: Recipe) -> int:
    """Return the bytes of a parameter's gradient while a global batch is summed.

    In float32 beside bf16 weights, ZeRO 1 keeps it in both; ZeRO 2 and 3 hand it on at once.
    """
    size = element_bytes(recipe)
    if not recipe.has_float32_gradients:
        return size
    return 4 if recipe.zero_stage >= 2 else size + 4


def offloaded(recipe: Recipe, what: str) -> bool:
    """Return whether the recipe's DeepSpeed settings move `optimizer` or `param` to the host."""
    zero = recipe.deepspeed.zero_optimization
    settings = {"optimizer": zero.offload_optimizer, "param": zero.offload_param}[what]
    return settings is not None and settings.device != "none"


def trained_parameters(shape: ModelShape, recipe: Recipe) -> int:
    """Return the number of parameters with a gradient.

    These are all parameters; with LoRA at most the matrices beside all linear layers of the blocks,
    whether the recipe names them or not, and the rows of the prompt style's tokens.
    """
    if recipe.lora is None:
        return shape.parameters
    attention = 2 * (shape.hidden + shape.attention) + 2 * (shape.hidden + shape.key_value)
    inner = (3 if shape.gated else 2) * (shape.hidden + shape.inner)
    matrices = recipe.lora.rank * shape.layers * (attention + inner)
    if recipe.lora.dora:
        outputs = shape.attention + 2 * shape.key_value + 2 * shape.hidden
        matrices += shape.layers * (outputs + (2 if shape.gated else 1) * shape.inner)
    tables = (1 if shape.tied_embeddings else 2) if recipe.lora.train_new_tokens else 0
    return matrices + _NEW_TOKENS * tables * shape.hidden + copied_parameters(shape, recipe)


def copied_parameters(shape: ModelShape, recipe: Recipe) -> int:
    """Return the size of LoRA's copies of whole layers, each at most as large as the embeddings."""
    saved = (recipe.lora and recipe.lora.modules_to_save) or ()
    return len(saved) * shape.vocabulary_rows * shape.hidden


def model_states(
    shape: ModelShape, recipe: Recipe, ranks: int
) -> tuple[MemoryPart, MemoryPart, MemoryPart]:
    """Return weights, gradients and optimizer of one rank, wherever they are kept.

    With ZeRO, or in mixed precision, DeepSpeed's optimizer works on a float32 copy of the weights
    and, during a step, of the gradients: 16 bytes per parameter with Adam's two moments.
    """
    size, stage, trained = (
        element_bytes(recipe),
        recipe.zero_stage,
        trained_parameters(shape, recipe),
    )
    whose = "LoRA's parameters" if recipe.lora else "parameters"
    has_copies = size < 4 or stage > 0
    per_parameter = 16 if has_copies else 8
    return (
        MemoryPart(
            name="weights",
            size_bytes=size
            * (shape.parameters + copied_parameters(shape, recipe))
            // (ranks if stage == 3 else 1),
            source=_per_parameter(size, "parameters", stage == 3, ranks),
        ),
        MemoryPart(
            name="gradients",
            size_bytes=gradient_bytes(recipe) * trained // (ranks if stage >= 2 else 1),
            source=_per_parameter(gradient_bytes(recipe), whose, stage >= 2, ranks),
        ),
        MemoryPart(
            name="optimizer",
            size_bytes=per_parameter * trained // (ranks if stage >= 1 else 1),
            source=_per_parameter(per_parameter, whose, stage >= 1, ranks)
            + (", float32 copies included" if has_copies else ""),
        ),
    )


def device_memory(
    shape: ModelShape,
    recipe: Recipe,
    *,
    ranks: int,
    micro_tokens: int,
    micro_labels: int,
    on_gpu: bool,
) -> tuple[MemoryPart, ...]:
    """Return the peak memory of one rank on its device.

    Args:
        shape: The model.
        recipe: How to train.
        ranks: Number of devices that share the work.
        micro_tokens: Tokens of the largest micro-batch.
        micro_labels: How many of them are labelled.
        on_gpu: Whether the device is a GPU. On the host, memory that is reserved and never
            written takes nothing.
    """
    states = model_states(shape, recipe, ranks)
    parts = [
        *(part for part, kept in zip(states, _kept_on_device(recipe), strict=True) if kept),
        *_sharding_buffers(shape, recipe, ranks, on_gpu=on_gpu),
        _activations(shape, recipe, micro_tokens),
        *_logits(shape, recipe, ranks, micro_labels, on_gpu=on_gpu),
    ]
    if on_gpu:
        total = sum(part.size_bytes for part in parts)
        parts += [
            MemoryPart(
                name="CUDA context", size_bytes=CUDA_BYTES, source="1.25 GiB, from experience"
            ),
            MemoryPart(
                name="fragmentation",
                size_bytes=int(FRAGMENTATION * total),
                source="5 % of the parts above, assumed",
            ),
        ]
    else:
        parts.append(
            MemoryPart(
                name="process", size_bytes=RANK_BYTES, source="0.75 GiB for libraries, assumed"
            )
        )
    return tuple(part for part in parts if part.size_bytes)


def host_memory(
    shape: ModelShape, recipe: Recipe, *, ranks: int, ranks_per_node: int
) -> tuple[MemoryPart, ...]:
    """Return what the ranks of one machine need besides their GPUs, to load and to train.

    At ZeRO 3 the weights are sharded as they are loaded (zero.Init), and rank 0 alone reads them;
    else each rank does.
    """
    size = element_bytes(recipe)
    whole = 1 if recipe.zero_stage == 3 else ranks_per_node
    weights, gradients, optimizer = model_states(shape, recipe, ranks)
    kept = _kept_on_device(recipe)
    moved = sum(
        part.size_bytes
        for part, stays in zip((weights, gradients, optimizer), kept, strict=True)
        if not stays
    )
    loading = whole * size * shape.parameters
    offload = int(HOST_FACTOR * moved * ranks_per_node)
    parts = [
        MemoryPart(
            name="processes",
            size_bytes=ranks_per_node * 4 * RANK_BYTES,
            source="3 GiB per rank for libraries and the host side of CUDA, from experience",
        ),
        MemoryPart(
            name="loading weights",
            size_bytes=loading,
            source=f"{size} B × parameters, on {count(whole, 'rank')}",
        ),
        MemoryPart(
            name="offload",
            size_bytes=offload,
            source="what is not on the GPU, × 1.5 as in DeepSpeed's estimators",
        ),
    ]
    return tuple(part for part in parts if part.size_bytes)


def activation_bytes_per_token(shape: ModelShape, recipe: Recipe) -> int:
    """Return what the backward pass of one layer keeps of the forward pass, for each token.

    It keeps the inputs of two norms, the three projections, attention, its output projection, the
    first and the last matrix of the feed-forward part, and its activation function (twice, as
    PyTorch computes it; gated models also keep what the gate multiplies). Dropout keeps a mask of
    bytes in each of its two places.
    """
    attention = 4 * shape.hidden + 3 * shape.attention + 3 * shape.key_value
    inner = (4 if shape.gated else 3) * shape.inner
    return element_bytes(recipe) * (attention + inner) + (2 * shape.hidden if shape.dropout else 0)


def _activations(shape: ModelShape, recipe: Recipe, micro_tokens: int) -> MemoryPart:
    layer = activation_bytes_per_token(shape, recipe)
    recomputed = recomputed_layers(shape, recipe)
    kept = shape.layers - recomputed
    settings = recipe.gradient_checkpointing
    on_host = isinstance(settings, GradientCheckpointing) and settings.offload
    inputs = 0 if on_host else recomputed * element_bytes(recipe) * shape.hidden
    per_token = inputs + kept * layer
    if recomputed:
        per_token += layer
        source = "one layer recomputed"
        if not on_host:
            source = f"the inputs of {recomputed} layers, and {source}"
        if kept:
            source += f", beside {memory_size(layer)} × {kept} layers"
    else:
        source = f"{memory_size(layer)} × {shape.layers} layers"
    return MemoryPart(
        name="activations",
        size_bytes=per_token * micro_tokens,
        source=f"{source}, for {micro_tokens:,} tokens of the largest micro-batch "
        "(Korthikanti et al.)",
    )


def recomputed_layers(shape: ModelShape, recipe: Recipe) -> int:
    """Return the number of layers that the backward pass computes again."""
    settings = recipe.gradient_checkpointing
    if isinstance(settings, GradientCheckpointing):
        return -(-shape.layers // settings.every)
    return shape.layers if settings else 0


def _logits(
    shape: ModelShape, recipe: Recipe, ranks: int, micro_labels: int, *, on_gpu: bool
) -> tuple[MemoryPart, ...]:
    """Return what the loss takes: the logits, and in chunks the output layer's gradient."""
    rows, size = shape.vocabulary_rows, element_bytes(recipe)
    if recipe.loss == "full":
        return (
            MemoryPart(
                name="logits",
                size_bytes=rows * (size + 8) * micro_labels,
                source=f"{micro_labels:,} labelled tokens × {rows:,} rows, also in float32 with "
                "their gradient",
            ),
        )
    labels = min(micro_labels, chunk_rows(rows, "cuda" if on_gpu else "cpu"))
    logits = MemoryPart(
        name="logits",
        size_bytes=rows * (size + 8) * labels,
        source=f"{labels:,} labelled tokens at a time × {rows:,} rows, also in float32 with their "
        "gradient",
    )
    # Without ZeRO's shards, a float32 sum becomes the gradient itself.
    is_gradient = size == 4 and (recipe.zero_stage < 2 or ranks == 1)
    if recipe.lora or is_gradient:
        return (logits,)
    return (
        logits,
        MemoryPart(
            name="output layer's gradient",
            size_bytes=4 * rows * shape.hidden,
            source="4 B × the output layer, from the forward pass on",
        ),
    )


def _sharding_buffers(
    shape: ModelShape, recipe: Recipe, ranks: int, *, on_gpu: bool
) -> list[MemoryPart]:
    size, stage, settings = (
        element_bytes(recipe),
        recipe.zero_stage,
        recipe.deepspeed.zero_optimization,
    )
    if stage == 0:
        return []
    requested = settings.reduce_bucket_size
    bucket = shape.hidden**2 if requested == "auto" else requested  # as transformers fills it in
    if not on_gpu:
        bucket = min(bucket, trained_parameters(shape, recipe))
    copies = 2 if settings.overlap_comm and stage < 3 else 1
    parts = [
        MemoryPart(
            name="reduce bucket",
            size_bytes=copies * size * bucket,
            source=f"{bucket:,} elements"
            + (" × 2, as communication overlaps" if copies > 1 else ""),
        )
    ]
    if stage == 3:
        live = min(shape.parameters, settings.stage3_max_live_parameters)
        gathered = max(size * live, 4 * shape.largest_layer)
        parts.append(
            MemoryPart(
                name="gathered weights",
                size_bytes=gathered,
                source=f"at most {live:,} parameters at once",
            )
        )
    return parts


def _kept_on_device(recipe: Recipe) -> tuple[bool, bool, bool]:
    """Return whether weights, gradients and optimizer stay on the device."""
    optimizer = not offloaded(recipe, "optimizer")
    return not offloaded(recipe, "param"), optimizer, optimizer


def _per_parameter(size: int, whose: str, sharded: bool, ranks: int) -> str:
    return f"{size} B × {whose}" + (f" / {ranks} ranks (ZeRO)" if sharded and ranks > 1 else "")
