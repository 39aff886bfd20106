"""Private interfaces of transformers, DeepSpeed, peft and torch that we use, by version.

Everything here may move with an upgrade: the names begin with an underscore, or are public in name
but documented nowhere. The rest of the package calls these functions only, and a test checks each
one, so that an upgrade shows at once what has to be read again. Not here are the documented hooks
of `Trainer` that `loop/trainer.py` overrides, though the test checks their signatures, too, and the
classes that `checkpoint/unpickling.py` allows in DeepSpeed's pickles.
"""

import contextlib
import io
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, Trainer

CHECKED_VERSIONS = {"transformers": "5.24", "deepspeed": "0.19", "peft": "0.21", "torch": "2.13"}
"""What the functions below were written against; the test names the one that has moved on."""


# --- transformers: how the Trainer saves, and how models choose their attention


def save_training_state(trainer: "Trainer", folder: Path) -> None:
    """Write the small files of a Trainer's checkpoint: random numbers, and fp16's loss scale."""
    trainer._save_scaler(str(folder))
    trainer._save_rng_state(str(folder))


def save_weights(trainer: "Trainer", folder: Path, state: Any) -> None:
    """Write weights, configuration and tokenizer as the Trainer does, from a given state dict."""
    trainer._save(str(folder), state)


def attention_implementation(model: "PreTrainedModel") -> str:
    """Return the name of the attention that a model computes with."""
    return str(model.config._attn_implementation)


def can_set_attention(model: "PreTrainedModel") -> bool:
    """Return whether a model accepts another attention by name."""
    return model._can_set_attn_implementation()


def set_config_attention(config: "PretrainedConfig", name: str) -> None:
    """Have models of a configuration compute with an attention by name."""
    config._attn_implementation = name


def model_from_config(
    model_class: "type[PreTrainedModel]", config: "PretrainedConfig"
) -> "PreTrainedModel":
    """Build a model of random float32 weights, as the auto classes do."""
    import torch

    return model_class._from_config(config, dtype=torch.float32)


@contextmanager
def without_deepspeed() -> Iterator[None]:
    """Build and call models in the block as if no DeepSpeed configuration was active.

    Otherwise transformers shards each model that it builds under ZeRO 3.
    """
    from transformers.integrations import deepspeed

    before = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed._hf_deepspeed_config_weak_ref = None
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = before


# --- DeepSpeed: states before they are written, and weights that are sharded


@contextmanager
def states_instead_of_files(trainer: "Trainer", states: dict[Path, Any]) -> Iterator[None]:
    """Collect what DeepSpeed would write, by file, instead of letting it write.

    Args:
        trainer: Its engine is DeepSpeed's.
        states: Gets every state that is saved in the block, unchanged: no tensor is copied.
    """
    from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine

    class Collecting(TorchCheckpointEngine):
        def save(self, state_dict: Any, path: str) -> None:
            states[Path(path)] = state_dict

    engine: Any = trainer.model_wrapped
    before, engine.checkpoint_engine = engine.checkpoint_engine, Collecting()
    try:
        yield
    finally:
        engine.checkpoint_engine = before


def save_optimizer_and_scheduler(trainer: "Trainer", folder: Path) -> None:
    """Have the Trainer and DeepSpeed save the optimizer and the learning-rate schedule."""
    trainer._save_optimizer_and_scheduler(str(folder))


def is_sharded(trainer: "Trainer") -> bool:
    """Return whether no rank holds the whole model (ZeRO 3)."""
    engine: Any = trainer.model_wrapped
    return engine.zero_optimization_partition_weights()


def published_weights(trainer: "Trainer") -> Any:
    """Return the state dict of the weights to publish; rank 0 gets it at least.

    Of an adapter it holds the trained weights only. Where the model is sharded this is a
    collective operation.
    """
    from peft import PeftModel

    engine: Any = trainer.model_wrapped
    is_adapter = isinstance(engine.module, PeftModel)
    if is_sharded(trainer):
        return engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=is_adapter)
    if not trainer.args.should_save:
        return None
    return engine.module_state_dict(exclude_frozen_parameters=is_adapter)


def parameter_size(weight: "torch.Tensor") -> int:
    """Return the number of elements of a parameter, sharded by ZeRO 3 or not."""
    return getattr(weight, "ds_numel", None) or weight.numel()


def skip_shared_memory_op() -> None:
    """Keep DeepSpeed from compiling its shared-memory op when it starts on CPU ranks.

    Only `inference_all_reduce` uses it, which training never calls. Compiling needs a compiler and
    takes some 40 s.
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def write_universal_checkpoint(state: Path, into: Path) -> None:
    """Convert a DeepSpeed state to a universal checkpoint, which any number of ranks loads.

    Args:
        state: The folder of one step, such as `global_step10`.
        into: The folder to write.
    """
    from deepspeed.checkpoint.ds_to_universal import main

    arguments = Namespace(
        input_folder=str(state),
        output_folder=str(into),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main(arguments)


def gather_with(module: "torch.nn.Module", *parameters: "torch.nn.Parameter | None") -> None:
    """Have ZeRO 3 gather parameters that a module uses and other modules hold."""
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    if not is_deepspeed_zero3_enabled():
        return
    import deepspeed

    for parameter in parameters:
        if parameter is not None:
            deepspeed.zero.register_external_parameter(module, parameter)


# --- peft: the rows of trained tokens


@contextmanager
def token_rows_from_any_device() -> Iterator[None]:
    """Let peft read rows of sharded embeddings on any device; by itself it can on GPUs only."""
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

    def gathered(
        self: TrainableTokensLayer, weight: "torch.Tensor", rows: "torch.Tensor", embed_dim: int
    ) -> "torch.Tensor":
        import deepspeed

        with deepspeed.zero.GatheredParameters([weight], modifier_rank=None):
            return weight[rows].detach().clone()

    before = TrainableTokensLayer._collect_token_weights
    TrainableTokensLayer._collect_token_weights = gathered
    try:
        yield
    finally:
        TrainableTokensLayer._collect_token_weights = before


def gather_weights_of_dora(model: "torch.nn.Module") -> None:
    """Have ZeRO 3 gather the frozen weights whose rows' lengths DoRA computes."""
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            for dora in layer.lora_magnitude_vector.values():
                gather_with(dora, layer.get_base_layer().weight)  # pyright: ignore[reportArgumentType]


# --- torch: trees of containers


def leaves(states: Any) -> list[Any]:
    """Return the leaves of nested dicts, lists and tuples, in a fixed order."""
    from torch.utils._pytree import tree_leaves

    return tree_leaves(states)


def map_leaves(function: Callable[[Any], Any], states: Any) -> Any:
    """Return the same nested containers with every leaf replaced by the function of it."""
    from torch.utils._pytree import tree_map

    return tree_map(function, states)
