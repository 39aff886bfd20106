"""The plan of a training: does it fit, how long does it take, what does it cost; each number with where it is from.

Puts memory, machines, data and prices together. Knows no Dagster and no store.
"""

from dataclasses import dataclass, field

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.hardware.device_table import device_spec
from dolly_assets.hardware.machine import Machines
from dolly_assets.planning.measured import Calibration
from dolly_assets.planning.memory import (
    RANK_BYTES,
    MemoryPart,
    device_memory,
    element_bytes,
    host_memory,
    offloaded,
    trained_parameters,
)
from dolly_assets.planning.model_shape import ModelShape
from dolly_assets.planning.prices import Prices
from dolly_assets.planning.rows import TrainingRows
from dolly_assets.training.recipe import Recipe

# The share of its peak arithmetic that a device gives before anything was measured. PaLM's 46 % and
# Megatron's 52 % (Chowdhery et al. 2022, table 3; Narayanan et al. 2021) are of tuned pre-training;
# fine-tunes of short examples reach less. CPUs are measured with a product of large matrices, which
# a model's are not.
ASSUMED_SHARE = {"gpu": 0.35, "cpu": 0.5}
# The forward pass once more (Korthikanti et al. 2022, section 5).
RECOMPUTE = 4 / 3
# A step that waits for the host's optimizer and for PCIe: an assumption, between ZeRO-Offload's
# figures.
OFFLOAD = 1.5


@dataclass(frozen=True)
class PlanRequest:
    """What is planned.

    Attributes:
        recipe: How it is trained.
        shape: The base model.
        data: The tokenized dataset's rows.
        machines: Where.
        epochs: How many.
        prices: What hours and kilowatt-hours cost.
        gpu_hour_usd: A price that goes before the list's.
        calibration: What an earlier epoch tells.
    """

    recipe: Recipe
    shape: ModelShape
    data: TrainingRows
    machines: Machines
    epochs: int
    prices: Prices = field(default_factory=Prices.read)
    gpu_hour_usd: float | None = None
    calibration: Calibration | None = None


class Plan(Config):
    """What a training will need. Sizes are in bytes; a number is None where nothing tells it."""

    machines: Machines
    epochs: int
    steps_per_epoch: int
    tokens_per_epoch: int
    labelled_tokens_per_epoch: int
    device_memory: tuple[MemoryPart, ...] = Field(description="Of one rank, from formulas.")
    host_memory: tuple[MemoryPart, ...] = Field(
        description="Of one machine beside its GPUs, from formulas."
    )
    memory_ratio: float = Field(description="What measured memory was, over the formulas.")
    scratch_bytes: int = Field(description="Of the disk of the machine where rank 0 runs.")
    store_bytes: int = Field(description="Of the object store, for all epochs.")
    operations_per_epoch: float = Field(
        description="Floating-point, recomputation and offload's waits included."
    )
    seconds_per_epoch: float | None
    seconds_source: str
    is_time_measured: bool = Field(
        description="Whether the time follows an earlier epoch on such devices."
    )
    calibrated_by: str | None = Field(description="The epoch whose measurements the plan follows.")
    cost_usd: float | None = Field(description="Of all epochs.")
    cost_source: str
    energy_kwh: float | None = Field(description="Of the GPUs, all epochs.")
    carbon_kg: float | None
    energy_source: str

    @property
    def formula_bytes(self) -> int:
        """What `Measured.peak_bytes` measures, from formulas: of one GPU, or of all CPU ranks of a machine."""
        of_rank = sum(part.size_bytes for part in self.device_memory)
        return (
            of_rank
            if self.machines.kind == "gpu"
            else of_rank * self.machines.ranks_per_node + _launcher(self)
        )

    @property
    def needed_bytes(self) -> int:
        """The same, calibrated."""
        return int(self.formula_bytes * self.memory_ratio)

    @property
    def available_bytes(self) -> int | None:
        """What the needed bytes have to fit into."""
        return (
            self.machines.device_bytes if self.machines.kind == "gpu" else self.machines.host_bytes
        )

    @property
    def host_needed_bytes(self) -> int:
        """Of one machine beside its GPUs."""
        return sum(part.size_bytes for part in self.host_memory)

    @property
    def fits(self) -> bool | None:
        """Whether memory suffices; None if it is not known how much there is."""
        if self.available_bytes is None:
            return None
        host_fits = (
            self.machines.host_bytes is None or self.host_needed_bytes <= self.machines.host_bytes
        )
        return self.needed_bytes <= self.available_bytes and host_fits

    @property
    def hours(self) -> float | None:
        """Of all epochs."""
        return self.seconds_per_epoch * self.epochs / 3600 if self.seconds_per_epoch else None


def plan(job: PlanRequest) -> Plan:
    """Plans a job.

    Raises:
        TrainingError: Its global batch cannot be shared by the ranks, or the rows do not fill one.
    """
    recipe, machines, data = job.recipe, job.machines, job.data
    recipe.accumulation_steps(machines.ranks)
    micro_tokens, micro_labels = data.largest_micro_batch(recipe.micro_batch_size)
    share = data.share_trained(recipe.global_batch_size)
    on_gpu = machines.kind == "gpu"
    operations = share * _operations(job)
    seconds, seconds_source = _seconds(job, operations)
    cost, cost_source = _cost(job, seconds)
    energy, energy_source = _energy(job, seconds)
    return Plan(
        machines=machines,
        epochs=job.epochs,
        steps_per_epoch=data.steps(recipe.global_batch_size),
        tokens_per_epoch=int(share * data.row_tokens.sum()),
        labelled_tokens_per_epoch=int(share * data.row_labels.sum()),
        device_memory=device_memory(
            job.shape,
            recipe,
            ranks=machines.ranks,
            micro_tokens=micro_tokens,
            micro_labels=micro_labels,
            on_gpu=on_gpu,
        ),
        host_memory=host_memory(
            job.shape, recipe, ranks=machines.ranks, ranks_per_node=machines.ranks_per_node
        )
        if on_gpu
        else (),
        memory_ratio=_memory_ratio(job),
        scratch_bytes=scratch_bytes(job.shape, recipe),
        store_bytes=job.epochs * checkpoint_bytes(job.shape, recipe),
        operations_per_epoch=operations,
        seconds_per_epoch=seconds,
        seconds_source=seconds_source,
        is_time_measured=job.calibration is not None and _same_device(job, job.calibration),
        calibrated_by=job.calibration.source if job.calibration else None,
        cost_usd=cost,
        cost_source=cost_source,
        energy_kwh=energy,
        carbon_kg=energy * job.prices.carbon_g_per_kwh / 1000 if energy is not None else None,
        energy_source=energy_source,
    )


def checkpoint_bytes(shape: ModelShape, recipe: Recipe) -> int:
    """An epoch in the store: weights for whoever loads them, and what resuming needs.

    That is Adam's two moments and the weights' copy, in float32; below ZeRO 3 also the weights as
    DeepSpeed saves them. No two epochs share a byte of them. Of LoRA it is the adapter's, and whole
    weights where they are merged.
    """
    size = element_bytes(recipe)
    saved_twice = 2 if recipe.zero_stage < 3 else 1
    states = 12 if size < 4 or recipe.zero_stage > 0 else 8
    merged = size * shape.parameters if recipe.lora and recipe.lora.merge else 0
    return trained_parameters(shape, recipe) * (saved_twice * size + states) + merged


def scratch_bytes(shape: ModelShape, recipe: Recipe) -> int:
    """Disk of the machine where rank 0 runs: the base model, and two checkpoints, one of which is being uploaded."""
    return element_bytes(recipe) * shape.parameters + 2 * checkpoint_bytes(shape, recipe)


def _launcher(planned: Plan) -> int:
    """torchrun, which starts several ranks and waits, has imported torch too."""
    return RANK_BYTES // 3 if planned.machines.ranks_per_node > 1 else 0


def _operations(job: PlanRequest) -> float:
    """Of all rows once, with what recomputation and offload add."""
    data, model = job.data, job.shape.flops
    if job.recipe.lora:
        model = model.with_adapter(trained_parameters(job.shape, job.recipe))
    flops = model.of_examples(data.lengths.tolist(), int(data.row_labels.sum()))
    recompute = RECOMPUTE if job.recipe.gradient_checkpointing else 1.0
    return flops * recompute * (OFFLOAD if offloaded(job.recipe, "optimizer") else 1.0)


def _same_device(job: PlanRequest, calibration: Calibration) -> bool:
    if job.machines.kind == "cpu" or calibration.device is None:
        return job.machines.kind == "cpu" and calibration.device is None
    return device_spec(calibration.device) == device_spec(job.machines.device or "")


def _seconds(job: PlanRequest, operations: float) -> tuple[float | None, str]:
    """Of one epoch.

    CPU ranks share their machine's cores, so their number says nothing of their speed.
    """
    machines, known = job.machines, job.calibration
    precision = job.recipe.precision
    if known and _same_device(job, known):
        shared_by = machines.ranks / known.ranks if machines.kind == "gpu" else 1.0
        return operations * known.seconds_per_operation / shared_by, f"measured in {known.source}"
    peak = machines.peak_flops(precision)
    if peak is None:
        return None, "the device is not known: set compute.device"
    earlier = device_spec(known.device) if known and known.device else None
    if known and earlier and machines.kind == "gpu" and (per_gpu := earlier.peak_flops(precision)):
        share = 1 / (known.seconds_per_operation * known.ranks * per_gpu)
        return operations / (
            share * peak
        ), f"{share:.0%} of {peak / 1e12:,.0f} TFLOP/s, as measured in {known.source}"
    share = ASSUMED_SHARE[machines.kind]
    what = (
        "of a matrix product's speed here"
        if machines.kind == "cpu"
        else f"of the data sheet's {precision} peak"
    )
    return operations / (
        share * peak
    ), f"assumed {share:.0%} {what}, {peak / 1e12:,.2f} TFLOP/s in all"


def _memory_ratio(job: PlanRequest) -> float:
    known = job.calibration
    return known.memory_ratio if known and known.memory_ratio and _same_device(job, known) else 1.0


def _cost(job: PlanRequest, seconds: float | None) -> tuple[float | None, str]:
    if job.machines.kind == "cpu":
        return None, "no price for CPUs"
    price = job.gpu_hour_usd
    source = "compute.gpu_hour_usd"
    if price is None:
        price = job.prices.of_gpu_hour(job.machines.device or "")
        source = f"an example of {job.prices.as_of:%Y-%m-%d}"
    if price is None or seconds is None:
        return (
            None,
            "no price for the device: set compute.gpu_hour_usd" if seconds else "no time is known",
        )
    gpu_hours = seconds * job.epochs / 3600 * job.machines.ranks
    return gpu_hours * price, f"{gpu_hours:,.1f} GPU-hours at ${price:.2f}, {source}"


def _energy(job: PlanRequest, seconds: float | None) -> tuple[float | None, str]:
    spec = device_spec(job.machines.device or "")
    known = job.calibration
    if seconds is None or spec is None:
        return None, "the device's power is not known"
    measured = known and known.watts and _same_device(job, known)
    watts = known.watts if known and measured and known.watts else spec.tdp_watts
    source = f"measured in {known.source}" if known and measured else "the power limit, so at most"
    carbon = f"{job.prices.carbon_g_per_kwh:,.0f} g CO₂ per kWh"
    return (
        watts * job.machines.ranks * seconds * job.epochs / 3.6e6,
        f"{watts:,.0f} W for each GPU, {source}; {carbon}",
    )
