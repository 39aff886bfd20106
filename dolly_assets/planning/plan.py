"""The plan of a training: whether it fits, how long it takes and what it costs, with sources.

It combines memory, machines, data and prices; it knows neither Dagster nor the store.
"""

from dataclasses import dataclass, field

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.errors import TrainingError
from dolly_assets.core.text import percent
from dolly_assets.hardware.device_table import device_spec
from dolly_assets.hardware.machine import Machines
from dolly_assets.planning.calibration import Calibration
from dolly_assets.planning.memory import (
    RANK_BYTES,
    MemoryPart,
    device_memory,
    element_bytes,
    host_memory,
    offloaded,
    recomputed_layers,
    trained_parameters,
)
from dolly_assets.planning.model_shape import ModelShape
from dolly_assets.planning.prices import Prices
from dolly_assets.planning.rows import TrainingRows
from dolly_assets.planning.scoring import Scoring, ScoringPlan, plan_scoring
from dolly_assets.training.packing.expected import Expected
from dolly_assets.training.recipe import Recipe

# The share of its peak arithmetic that a device is assumed to reach before anything was measured.
# PaLM's 46 % and Megatron's 52 % (Chowdhery et al. 2022, table 3; Narayanan et al. 2021) are for
# tuned pre-training; fine-tunes of short examples reach less. The peak of CPUs is measured with a
# product of large matrices, larger than a model's.
ASSUMED_SHARE = {"gpu": 0.35, "cpu": 0.5}
# The forward pass is computed once more (Korthikanti et al. 2022, section 5).
RECOMPUTE = 4 / 3
# A step that waits for the optimizer on the host and for PCIe: an assumption, between the results
# of ZeRO-Offload.
OFFLOAD = 1.5


@dataclass(frozen=True)
class PlanRequest:
    """The training to plan.

    Attributes:
        recipe: How to train.
        shape: The sizes of the base model.
        data: The rows of the tokenized dataset.
        machines: The machines that train.
        epochs: The number of epochs.
        prices: What GPU-hours cost and kilowatt-hours emit.
        gpu_hour_usd: A price that overrides the list's.
        calibration: Measurements of an earlier epoch.
        scoring: How its epochs are scored.
    """

    recipe: Recipe
    shape: ModelShape
    data: TrainingRows
    machines: Machines
    epochs: int
    prices: Prices = field(default_factory=Prices.read)
    gpu_hour_usd: float | None = None
    calibration: Calibration | None = None
    scoring: Scoring | None = None


class Plan(Config):
    """What a training will need. Sizes are in bytes; a number is None where it is not known."""

    machines: Machines
    epochs: int
    steps_per_epoch: int
    tokens_per_epoch: int
    labelled_tokens_per_epoch: int
    device_memory: tuple[MemoryPart, ...] = Field(
        description="Memory of one rank on its device, from formulas."
    )
    host_memory: tuple[MemoryPart, ...] = Field(
        description="Host memory of one machine besides its GPUs, from formulas."
    )
    memory_ratio: float = Field(description="Measured memory, divided by the formulas' sum.")
    scratch_bytes: int = Field(description="Disk space of the machine where rank 0 runs.")
    store_bytes: int = Field(description="Space in the object store for all epochs.")
    operations_per_epoch: float = Field(
        description="Floating-point operations of an epoch, with recomputation, and with the "
        "waiting of offload as operations."
    )
    seconds_per_epoch: float | None
    seconds_source: str
    is_time_measured: bool = Field(
        description="Whether the time is based on an earlier epoch on such devices."
    )
    calibrated_by: str | None = Field(
        description="The epoch whose measurements the plan is based on."
    )
    cost_usd: float | None = Field(description="Cost of all epochs in US dollars.")
    cost_source: str
    energy_kwh: float | None = Field(description="Energy of the GPUs over all epochs.")
    carbon_kg: float | None
    energy_source: str
    scoring: ScoringPlan | None = Field(
        default=None, description="What scoring an epoch will need; None if it was not planned."
    )
    remarks: tuple[str, ...] = Field(
        default=(), description="What to know about the examples' length and layout."
    )

    @property
    def formula_bytes(self) -> int:
        """The formulas' value for `Measured.peak_bytes`: of a GPU, or of a machine's CPU ranks."""
        per_rank = sum(part.size_bytes for part in self.device_memory)
        if self.machines.kind == "gpu":
            return per_rank
        return per_rank * self.machines.ranks_per_node + _launcher_bytes(self.machines)

    @property
    def needed_bytes(self) -> int:
        """The formulas' value, calibrated by what was measured."""
        return int(self.formula_bytes * self.memory_ratio)

    @property
    def available_bytes(self) -> int | None:
        """The memory that the needed bytes have to fit into; None if it is not known."""
        return (
            self.machines.device_bytes if self.machines.kind == "gpu" else self.machines.host_bytes
        )

    @property
    def host_needed_bytes(self) -> int:
        """Host memory that one machine needs besides its GPUs."""
        return sum(part.size_bytes for part in self.host_memory)

    @property
    def fits(self) -> bool | None:
        """Whether memory suffices; None if the available memory is not known."""
        if self.available_bytes is None:
            return None
        host_fits = (
            self.machines.host_bytes is None or self.host_needed_bytes <= self.machines.host_bytes
        )
        return self.needed_bytes <= self.available_bytes and host_fits

    @property
    def seconds(self) -> float | None:
        """Training time of all epochs; None if it is not known."""
        return self.seconds_per_epoch * self.epochs if self.seconds_per_epoch else None

    @property
    def hours(self) -> float | None:
        """Training time of all epochs in hours; None if it is not known."""
        return self.seconds / 3600 if self.seconds is not None else None


def plan(request: PlanRequest) -> Plan:
    """Plan a training.

    Raises:
        TrainingError: The ranks cannot share the global batch, or the rows do not fill one.
    """
    recipe, machines, data = request.recipe, request.machines, request.data
    recipe.accumulation_steps(machines.ranks)
    layout, remarks = _layout(request)
    micro_tokens, micro_labels = data.largest_micro_batch(
        recipe.micro_batch_size, padded=layout == "padded"
    )
    share = data.share_trained(recipe.global_batch_size)
    on_gpu = machines.kind == "gpu"
    operations = share * _operations(request)
    seconds, seconds_source = _seconds(request, operations)
    cost, cost_source = _cost(request, seconds)
    energy, energy_source = _energy(request, seconds)
    return Plan(
        machines=machines,
        epochs=request.epochs,
        steps_per_epoch=data.steps(recipe.global_batch_size),
        tokens_per_epoch=int(share * data.row_tokens.sum()),
        labelled_tokens_per_epoch=int(share * data.row_labels.sum()),
        device_memory=device_memory(
            request.shape,
            recipe,
            ranks=machines.ranks,
            micro_tokens=micro_tokens,
            micro_labels=micro_labels,
            on_gpu=on_gpu,
        ),
        host_memory=host_memory(
            request.shape, recipe, ranks=machines.ranks, ranks_per_node=machines.ranks_per_node
        )
        if on_gpu
        else (),
        memory_ratio=_memory_ratio(request),
        scratch_bytes=scratch_bytes(request.shape, recipe),
        store_bytes=request.epochs * checkpoint_bytes(request.shape, recipe),
        operations_per_epoch=operations,
        seconds_per_epoch=seconds,
        seconds_source=seconds_source,
        is_time_measured=request.calibration is not None
        and _same_device(request, request.calibration),
        calibrated_by=request.calibration.source if request.calibration else None,
        cost_usd=cost,
        cost_source=cost_source,
        energy_kwh=energy,
        carbon_kg=energy * request.prices.carbon_g_per_kwh / 1000 if energy is not None else None,
        energy_source=energy_source,
        scoring=request.scoring and plan_scoring(request.shape, recipe, request.scoring, machines),
        remarks=remarks,
    )


def _layout(request: PlanRequest) -> tuple[Expected, tuple[str, ...]]:
    """Return how examples will be laid out, and what to know about it.

    Raises:
        TrainingError: The model has no positions for `recipe.max_length`, or no layout that the
            recipe allows is exact.
    """
    recipe, shape = request.recipe, request.shape
    remark = shape.context.check(recipe.max_length, "the base model") if shape.context else None
    remarks = (remark,) if remark else ()
    if not recipe.packing:
        return "padded", remarks
    if shape.layouts is None:
        return "packed", remarks
    expected = shape.layouts.of(recipe.max_length * recipe.micro_batch_size)
    if expected == "padded" and recipe.packing == "required":
        raise TrainingError(
            f"recipe.packing is required, and the base model cannot be trained on packed rows: "
            f"{shape.layouts.reason}. Set recipe.packing: true to have examples padded"
        )
    if expected == "padded":
        remarks = (*remarks, f"examples are padded instead of packed: {shape.layouts.reason}")
    elif expected == "refused":
        remarks = (*remarks, f"the training may be refused: {shape.layouts.reason}")
    return expected, remarks


def checkpoint_bytes(shape: ModelShape, recipe: Recipe) -> int:
    """Return the size of an epoch in the store: weights to load, and the state for resuming.

    The state is Adam's two moments and a copy of the weights, in float32; below ZeRO 3 also the
    weights as DeepSpeed saves them. No two epochs share any of it. With LoRA it is the adapter's
    weights and state, and the model's weights where they are merged.
    """
    size = element_bytes(recipe)
    saved_twice = 2 if recipe.zero_stage < 3 else 1
    states = 12 if size < 4 or recipe.zero_stage > 0 else 8
    merged = size * shape.parameters if recipe.lora and recipe.lora.merge else 0
    return trained_parameters(shape, recipe) * (saved_twice * size + states) + merged


def scratch_bytes(shape: ModelShape, recipe: Recipe) -> int:
    """Return the disk space that training takes on the machine where rank 0 runs.

    It holds the base model and two checkpoints, one of them being uploaded.
    """
    return element_bytes(recipe) * shape.parameters + 2 * checkpoint_bytes(shape, recipe)


def _launcher_bytes(machines: Machines) -> int:
    """Return the memory of torchrun, which has imported torch and waits for several ranks."""
    return RANK_BYTES // 3 if machines.ranks_per_node > 1 else 0


def _operations(request: PlanRequest) -> float:
    """Return the operations of all rows once, with what recomputation and offload add."""
    data, model = request.data, request.shape.flops
    if request.recipe.lora:
        model = model.with_adapter(trained_parameters(request.shape, request.recipe))
    flops = model.of_examples(data.lengths.tolist(), int(data.row_labels.sum()))
    share = recomputed_layers(request.shape, request.recipe) / request.shape.layers
    recompute = 1 + (RECOMPUTE - 1) * share
    return flops * recompute * (OFFLOAD if offloaded(request.recipe, "optimizer") else 1.0)


def _same_device(request: PlanRequest, calibration: Calibration) -> bool:
    if request.machines.kind == "cpu" or calibration.device is None:
        return request.machines.kind == "cpu" and calibration.device is None
    return device_spec(calibration.device) == device_spec(request.machines.device or "")


def _seconds(request: PlanRequest, operations: float) -> tuple[float | None, str]:
    """Return the time of one epoch and its source.

    CPU ranks share the cores of their machine, so their number does not change the speed.
    """
    machines, known = request.machines, request.calibration
    precision = request.recipe.precision
    if known and _same_device(request, known):
        shared_by = machines.ranks / known.ranks if machines.kind == "gpu" else 1.0
        return operations * known.seconds_per_operation / shared_by, f"measured in {known.source}"
    peak = machines.peak_flops(precision)
    if peak is None:
        return None, "the device is not known; set compute.device"
    if known and (share := _measured_share(request, known)):
        source = f"{percent(share)} of {peak / 1e12:,.0f} TFLOP/s, as measured in {known.source}"
        return operations / (share * peak), source
    share = ASSUMED_SHARE[machines.kind]
    of_peak = (
        "of the speed of a matrix product here"
        if machines.kind == "cpu"
        else f"of the {precision} peak in the data sheet"
    )
    source = f"assumed {percent(share)} {of_peak}, {peak / 1e12:,.2f} TFLOP/s in total"
    return operations / (share * peak), source


def _measured_share(request: PlanRequest, known: Calibration) -> float | None:
    """Return the share of its peak that another kind of GPU reached in an earlier epoch."""
    spec = device_spec(known.device or "")
    if spec is None or request.machines.kind != "gpu":
        return None
    peak = spec.peak_flops(request.recipe.precision)
    return 1 / (known.seconds_per_operation * known.ranks * peak) if peak else None


def _memory_ratio(request: PlanRequest) -> float:
    known = request.calibration
    return (
        known.memory_ratio if known and known.memory_ratio and _same_device(request, known) else 1.0
    )


def _cost(request: PlanRequest, seconds: float | None) -> tuple[float | None, str]:
    if request.machines.kind == "cpu":
        return None, "no price for CPUs"
    price = request.gpu_hour_usd
    source = "compute.gpu_hour_usd"
    if price is None:
        price = request.prices.of_gpu_hour(request.machines.device or "")
        source = f"example price of {request.prices.as_of:%Y-%m-%d}"
    if price is None or seconds is None:
        return (
            None,
            "no price for the device; set compute.gpu_hour_usd"
            if seconds
            else "the time is not known",
        )
    gpu_hours = seconds * request.epochs / 3600 * request.machines.ranks
    return gpu_hours * price, f"{gpu_hours:,.1f} GPU-hours at ${price:.2f}, {source}"


def _energy(request: PlanRequest, seconds: float | None) -> tuple[float | None, str]:
    spec = device_spec(request.machines.device or "")
    known = request.calibration
    if seconds is None or spec is None:
        return None, "the device's power is not known"
    measured = known and known.watts and _same_device(request, known)
    watts = known.watts if known and measured and known.watts else spec.tdp_watts
    source = f"measured in {known.source}" if known and measured else "its power limit, so at most"
    carbon = f"{request.prices.carbon_g_per_kwh:,.0f} g CO₂ per kWh"
    return (
        watts * request.machines.ranks * seconds * request.epochs / 3.6e6,
        f"{watts:,.0f} W per GPU, {source}; {carbon}",
    )
