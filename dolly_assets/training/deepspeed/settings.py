"""DeepSpeed settings that a recipe may pass on, validated also where DeepSpeed is not installed.

Names, types and bounds are those of the configuration models in DeepSpeed 0.19; a test compares
the two. Settings that follow from the recipe are refused, and so are those of other kinds of
training (pipelines, tensor parallelism, autotuning).
"""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from dolly_assets.core.base import Config

Auto = Literal["auto"]  # transformers fills it in from the size of the model
Device = Literal["none", "cpu", "nvme"]


def _decided_by(setting: str) -> BeforeValidator:
    def refuse(_: Any) -> None:
        raise ValueError(f"follows from the recipe: leave it out and set recipe.{setting}")

    return BeforeValidator(refuse)


def _refuse_activation_checkpointing(_: Any) -> None:
    raise ValueError(
        "has no effect, since the model's layers are recomputed by transformers: leave it out and "
        "set recipe.gradient_checkpointing, such as {every: 2, offload: true}"
    )


class _Settings(Config):
    """Settings that serialize only what was set; the rest is left to DeepSpeed."""

    model_config = ConfigDict(protected_namespaces=())

    @model_serializer(mode="wrap")
    def _only_what_was_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        was_set = self.model_fields_set
        return {name: value for name, value in handler(self).items() if name in was_set}


class OffloadOptimizer(_Settings):
    """Where the optimizer's state is kept and updated."""

    device: Device = "none"
    nvme_path: str | None = None
    buffer_count: NonNegativeInt = 4
    pin_memory: bool = True
    pipeline_read: bool = False
    pipeline_write: bool = False
    fast_init: bool = False
    ratio: float = Field(default=1.0, ge=0, le=1)
    super_offload: bool = False
    cpuadam_cores_perc: float = Field(default=0.8, ge=0, le=1)


class OffloadParam(_Settings):
    """Where the weights are kept."""

    device: Device = "none"
    nvme_path: str | None = None
    buffer_count: NonNegativeInt = 5
    buffer_size: NonNegativeInt = 100_000_000
    max_in_cpu: NonNegativeInt = 1_000_000_000
    pin_memory: bool = True


class ZeroOptimization(_Settings):
    """How ZeRO shards, communicates and offloads. Sizes are numbers of elements."""

    stage: Annotated[None, _decided_by("zero_stage")] = None
    contiguous_gradients: bool = True
    reduce_scatter: bool = True
    reduce_bucket_size: PositiveInt | Auto = 500_000_000
    use_multi_rank_bucket_allreduce: bool = True
    allgather_partitions: bool = True
    allgather_bucket_size: NonNegativeInt = 500_000_000
    overlap_comm: bool | None = None
    compute_grad_norm: bool = True
    offload_param: OffloadParam | None = None
    offload_optimizer: OffloadOptimizer | None = None
    sub_group_size: NonNegativeInt = 1_000_000_000
    stage3_prefetch_bucket_size: NonNegativeInt | Auto = 50_000_000
    stage3_param_persistence_threshold: NonNegativeInt | Auto = 100_000
    stage3_model_persistence_threshold: NonNegativeInt = 2**63 - 1
    stage3_max_live_parameters: NonNegativeInt = 1_000_000_000
    stage3_max_reuse_distance: NonNegativeInt = 1_000_000_000
    stage3_module_granularity_threshold: int = 0
    stage3_use_all_reduce_for_fetch_params: bool = False
    stage3_allgather_sequential: bool = False
    ignore_unused_parameters: bool = True
    round_robin_gradients: bool = False
    parameter_alignment: bool = False
    zero_hpz_partition_size: NonNegativeInt = 1
    zero_quantized_weights: bool = False
    zero_quantized_nontrainable_weights: bool = False
    zero_quantized_gradients: bool = False
    memory_efficient_linear: bool = True
    override_module_apply: bool = True
    log_trace_cache_warnings: bool = False
    enable_sanity_checks: bool = False


class Bf16(_Settings):
    """Training in bf16."""

    enabled: Annotated[None, _decided_by("precision")] = None
    immediate_grad_update: bool = False
    check_grad_overflow: bool = True
    bf16_master_weights_and_grads: bool = False
    bf16_optimizer_states: bool = False


class Fp16(_Settings):
    """Training in fp16: how the loss is scaled."""

    enabled: Annotated[None, _decided_by("precision")] = None
    auto_cast: bool = False
    loss_scale: float = Field(default=0, ge=0, allow_inf_nan=False)
    initial_scale_power: NonNegativeInt = 16
    loss_scale_window: PositiveInt = 1000
    hysteresis: PositiveInt = 2
    consecutive_hysteresis: bool = False
    min_loss_scale: PositiveInt = 1
    fp16_master_weights_and_grads: bool = False


class Aio(_Settings):
    """How NVMe devices are read and written."""

    block_size: PositiveInt = 1_048_576
    queue_depth: PositiveInt = 8
    intra_op_parallelism: PositiveInt = 1
    single_submit: bool = False
    overlap_events: bool = True
    use_gds: bool = False


class DataTypes(_Settings):
    """The floating-point format in which gradients are accumulated."""

    grad_accum_dtype: Literal["fp32", "fp16", "bf16"] | None = None


class DeepSpeedSettings(_Settings):
    """Settings that override what follows from the recipe."""

    train_batch_size: Annotated[None, _decided_by("global_batch_size")] = None
    train_micro_batch_size_per_gpu: Annotated[None, _decided_by("micro_batch_size")] = None
    gradient_accumulation_steps: Annotated[
        None, _decided_by("global_batch_size and recipe.micro_batch_size")
    ] = None
    gradient_clipping: Annotated[None, _decided_by("max_grad_norm")] = None
    optimizer: Annotated[None, _decided_by("learning_rate and its AdamW settings")] = None
    scheduler: Annotated[None, _decided_by("scheduler")] = None
    zero_optimization: ZeroOptimization = ZeroOptimization()
    bf16: Bf16 = Bf16()
    fp16: Fp16 = Fp16()
    activation_checkpointing: Annotated[None, BeforeValidator(_refuse_activation_checkpointing)] = (
        None
    )
    aio: Aio = Aio()
    data_types: DataTypes = DataTypes()
    zero_force_ds_cpu_optimizer: bool = True
    communication_data_type: Literal["fp32", "fp16", "bf16"] | None = None
    prescale_gradients: bool = False
    gradient_predivide_factor: float = Field(default=1.0, gt=0)
    disable_allgather: bool = False
    disable_python_gc: bool = False
    dump_state: bool = False
    wall_clock_breakdown: bool = False
    memory_breakdown: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return what was set, in the form of DeepSpeed's configuration."""
        return self.model_dump(mode="json")
