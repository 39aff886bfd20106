"""The private interfaces that we use are where they were: an upgrade that moves one fails here.

A failure names the interface; read its new source, change dolly_assets/training/seams.py or
loop/trainer.py, and then this test.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

import pytest

from dolly_assets.training import seams
from dolly_assets.training.checkpoint.unpickling import DEEPSPEED_CLASSES


def trainer() -> Any:
    from transformers import Trainer

    return Trainer


def engine() -> Any:
    from deepspeed.runtime.engine import DeepSpeedEngine

    return DeepSpeedEngine


def checkpoint_engine() -> Any:
    from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine

    return TorchCheckpointEngine


def model() -> Any:
    from transformers import PreTrainedModel

    return PreTrainedModel


INTERFACES: list[tuple[Callable[[], Any], str, list[str]]] = [
    (trainer, "_save", ["self", "output_dir", "state_dict"]),
    (trainer, "_save_scaler", ["self", "output_dir"]),
    (trainer, "_save_rng_state", ["self", "output_dir"]),
    (trainer, "_save_optimizer_and_scheduler", ["self", "output_dir"]),
    (trainer, "_prepare_inputs", ["self", "inputs"]),
    (trainer, "get_batch_samples", ["self", "epoch_iterator", "num_batches", "device"]),
    (trainer, "training_step", ["self", "model", "inputs", "num_items_in_batch"]),
    (trainer, "log", ["self", "logs", "start_time"]),
    (model, "_can_set_attn_implementation", []),
    (model, "set_attn_implementation", ["self", "attn_implementation"]),
    (checkpoint_engine, "save", ["self", "state_dict", "path"]),
    (engine, "zero_optimization_partition_weights", ["self"]),
    (engine, "_zero3_consolidated_16bit_state_dict", ["self", "exclude_frozen_parameters"]),
    (engine, "module_state_dict", ["self", "destination", "prefix", "keep_vars"]),
    (engine, "set_gradient_accumulation_boundary", ["self", "is_boundary"]),
]


@pytest.mark.parametrize(
    ("owner", "name", "parameters"), INTERFACES, ids=[name for _, name, _ in INTERFACES]
)
def test_the_method_exists_with_its_parameters(
    owner: Callable[[], Any], name: str, parameters: list[str]
) -> None:
    found = getattr(owner(), name, None)
    assert found is not None, f"{owner().__module__}.{owner().__qualname__} has no {name} any more"
    names = list(inspect.signature(found).parameters)
    assert names[: len(parameters)] == parameters, f"{name} takes other arguments: {names}"


@pytest.mark.parametrize("library", seams.CHECKED_VERSIONS)
def test_the_installed_versions_are_those_that_the_seams_were_written_for(library: str) -> None:
    checked = seams.CHECKED_VERSIONS[library]
    assert version(library).startswith(f"{checked}."), (
        f"{library} is now {version(library)}: read what seams.py uses of it, and set the version"
    )


def test_the_trainer_reads_the_switch_that_turns_its_averaging_off() -> None:
    import transformers.trainer

    assert "loss_is_scaled_for_ga" in inspect.getsource(transformers.trainer)


def test_deepspeed_writes_by_the_checkpoint_engine_that_is_replaced() -> None:
    source = inspect.getsource(engine()._save_checkpoint)
    assert "self.checkpoint_engine.save(" in source
    assert "self.checkpoint_engine.save(" in inspect.getsource(engine()._save_zero_checkpoint)


def test_deepspeeds_backward_can_be_kept_from_dividing_by_the_micro_batches() -> None:
    """Its decorator hides the parameters."""
    import deepspeed.runtime.engine

    source = inspect.getsource(deepspeed.runtime.engine)
    assert "def backward(self, loss, retain_graph=False, scale_wrt_gas=True)" in source


@pytest.mark.slow
def test_deepspeed_has_the_op_that_is_skipped_and_the_size_that_is_read() -> None:
    import deepspeed.ops
    from deepspeed.runtime.zero import partition_parameters

    assert "deepspeed_shm_comm" in deepspeed.ops.__compatible_ops__
    assert "param.ds_numel = " in inspect.getsource(partition_parameters)


def test_deepspeed_converts_states_by_the_arguments_that_are_given() -> None:
    from deepspeed.checkpoint import ds_to_universal

    source = inspect.getsource(ds_to_universal.parse_arguments)
    for argument in (
        *("input_folder", "output_folder", "num_extract_workers", "num_merge_workers"),
        *("keep_temp_folder", "strict", "inject_missing_state"),
    ):
        assert argument in source, f"ds_to_universal has no argument {argument} any more"


def test_the_classes_in_deepspeeds_state_exist() -> None:
    for name in DEEPSPEED_CLASSES:
        module, _, class_name = name.rpartition(".")
        assert hasattr(import_module(module), class_name), f"DeepSpeed has no {name} any more"


def test_a_model_names_its_attention() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "gpt_neox", hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8
    )
    tiny = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    assert seams.attention_implementation(tiny) == "eager"
    assert seams.can_set_attention(tiny)


def test_nested_states_are_taken_apart_and_put_together() -> None:
    states = {"a": [1, (2, 3)], "b": {"c": 4}}
    assert seams.leaves(states) == [1, 2, 3, 4]
    assert seams.map_leaves(lambda leaf: -leaf, states) == {"a": [-1, (-2, -3)], "b": {"c": -4}}
