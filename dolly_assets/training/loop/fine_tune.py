"""The fine-tune itself: DeepSpeed under the Hugging Face Trainer, over a range of epochs.

It knows folders and numbers, not artifacts: it starts from a weights folder or resumes from a
checkpoint folder, and hands every finished epoch to the caller. The order of examples, the learning
rate and dropout at step n do not depend on where a range begins: epochs 1-3 in one go or one by one
give the same weights.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dolly_assets.core.errors import TrainingError
from dolly_assets.training import kernels
from dolly_assets.training.checkpoint.snapshot import Snapshots
from dolly_assets.training.checkpoint.universal import convert
from dolly_assets.training.checkpoint.unpickling import only_known_classes
from dolly_assets.training.deepspeed.config import deepspeed_config
from dolly_assets.training.loop.epochs import Epochs, as_callback
from dolly_assets.training.loop.example_losses import ExampleLosses
from dolly_assets.training.loop.meter import StepMeter
from dolly_assets.training.loop.observer import TrainingObserver
from dolly_assets.training.loop.request import FineTuneRequest
from dolly_assets.training.loop.stop import StopRequest
from dolly_assets.training.loop.trainer import load_trainer
from dolly_assets.training.packing.batches import RowDataset, single_rows
from dolly_assets.training.packing.layout import LayoutCollator
from dolly_assets.training.process_group import (
    COLLECTIVE_TIMEOUT_SECONDS,
    be_the_only_rank_unless_launched,
    meet_other_ranks,
    rank_and_size,
    wait_for_all_ranks,
)
from dolly_assets.training.recipe import GradientCheckpointing, Recipe
from dolly_assets.training.seams import skip_shared_memory_op

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments


def fine_tune(request: FineTuneRequest, observer: TrainingObserver, stop: StopRequest) -> None:
    """Train the requested epochs.

    Every rank calls it; the caller then leaves the process group.

    Args:
        request: What to train, in folders of this machine.
        observer: Gets the epochs and states of this rank, and lines for the log.
        stop: Whether this process was asked to stop.

    Raises:
        TrainingStopped: The ranks were asked to stop; the observer was given the state.
        TrainingError: The data cannot fill one global batch, the ranks cannot share one, or a guard
            ended the training.
    """
    from transformers.trainer_callback import PrinterCallback

    skip_shared_memory_op()
    be_the_only_rank_unless_launched()
    recipe = request.recipe
    dataset = _dataset(request)
    is_resharded = request.resume_ranks is not None and recipe.zero_stage > 0
    arguments = training_arguments(recipe, request.scratch, load_universal=is_resharded)
    meet_other_ranks(arguments)
    resume_from = request.resume_from
    if resume_from and is_resharded:
        resume_from = _converted(resume_from, request.scratch / "universal")
    losses = ExampleLosses()
    trainer, meter = load_trainer(
        recipe,
        request.weights,
        dataset,
        arguments,
        losses=losses,
        special_tokens=request.special_tokens,
        callbacks=[],
        profile_dir=request.profile_dir,
    )
    trainer.remove_callback(PrinterCallback)
    epochs = Epochs(
        request,
        observer,
        stop,
        real_tokens=lambda: dataset.real_tokens,
        meter=meter,
        losses=losses,
        snapshots=Snapshots(trainer, request.copy_bytes),
        kernels=lambda: _description(trainer, meter),
        held_out_loss=_held_out_loss(trainer, request),
    )
    trainer.add_callback(
        as_callback(epochs, lambda: trainer.accelerator.optimizer_step_was_skipped)
    )
    try:
        with only_known_classes():
            trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    finally:
        epochs.close()


def _held_out_loss(trainer: "Trainer", request: FineTuneRequest) -> Callable[[], float] | None:
    """Return what computes the held-out loss, if early stopping needs it."""
    table = request.held_out
    if table is None or request.recipe.early_stopping is None:
        return None
    return lambda: cast(Any, trainer).held_out_loss(single_rows(table))


def _description(trainer: "Trainer", meter: StepMeter) -> str:
    """Describe what trains and what is measured, once training begins."""
    layout = cast(LayoutCollator, trainer.data_collator).layout
    assert layout
    found = kernels.describe(trainer, layout)
    if meter.counts_operations:
        return found
    return f"{found}; the operations of this architecture are not counted: no FLOP/s, no MFU"


def training_arguments(
    recipe: Recipe, scratch: Path, *, load_universal: bool = False
) -> "TrainingArguments":
    """Return the Trainer's arguments for a recipe on the ranks that are running now.

    Args:
        recipe: How to train.
        scratch: The Trainer's output folder.
        load_universal: Whether the state to resume from is a universal checkpoint.
    """
    import torch
    from transformers import TrainingArguments

    _, ranks = rank_and_size()
    schedulers = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
    return TrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.micro_batch_size,
        gradient_accumulation_steps=recipe.accumulation_steps(ranks),
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=schedulers[recipe.scheduler],
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        adam_epsilon=recipe.adam_epsilon,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.precision == "bf16",
        fp16=recipe.precision == "fp16",
        activation_checkpointing=bool(recipe.gradient_checkpointing),
        activation_checkpointing_kwargs=_checkpointing(recipe.gradient_checkpointing),
        seed=recipe.seed,
        train_sampling_strategy="sequential",  # the dataset is in the epoch's order already
        deepspeed=deepspeed_config(recipe, ranks, load_universal=load_universal),
        ddp_timeout=COLLECTIVE_TIMEOUT_SECONDS,
        use_cpu=not torch.cuda.is_available(),
        tf32=_tf32(recipe),
        # Copies of batches do not wait for the device, nor it for them: their memory is pinned.
        accelerator_config={"non_blocking": True},
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # `Epochs` saves
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
        remove_unused_columns=False,
    )


def _tf32(recipe: Recipe) -> bool | None:
    """Return whether to multiply float32 in TF32, which devices before Ampere do not have."""
    import torch

    wanted = recipe.tf32 and torch.cuda.is_available()
    return True if wanted and torch.cuda.get_device_capability() >= (8, 0) else None


def _checkpointing(settings: bool | GradientCheckpointing) -> dict[str, Any] | None:
    """Return transformers' settings for recomputing layers; None where it decides."""
    import torch

    if isinstance(settings, bool):
        return None
    # Without a GPU the activations are in host memory anyway.
    offload = settings.offload and torch.cuda.is_available()
    return {"every_n_layers": settings.every, "offload": offload, "use_reentrant": False}


def _dataset(request: FineTuneRequest) -> RowDataset:
    """Return the rows to train on; raise TrainingError if they do not fill one global batch."""
    recipe = request.recipe
    dataset = RowDataset(
        request.train, global_batch_size=recipe.global_batch_size, seed=recipe.seed
    )
    if not len(dataset):
        raise TrainingError(
            f"{request.train.num_rows} training examples in {dataset.rows} rows cannot fill one "
            f"global batch of {recipe.global_batch_size} rows: lower recipe.global_batch_size or "
            "recipe.max_length, or add data"
        )
    return dataset


def _converted(state: Path, into: Path) -> Path:
    """Return the state for another number of ranks, which rank 0 converts."""
    rank, _ = rank_and_size()
    if rank == 0:
        with only_known_classes():
            convert(state, into)
    wait_for_all_ranks()
    return into
