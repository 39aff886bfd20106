"""The fine-tune itself: DeepSpeed under the Hugging Face Trainer, over a range of epochs.

It knows folders and numbers, not artifacts: it starts from a weights folder (or goes on from a
checkpoint folder), and hands every finished epoch to the caller as a checkpoint folder with its
figures. The order of examples, the rate and dropout at step n do not depend on where a range
begins, so epochs 1-3 in one go or one by one give the same weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from dolly_assets.core.errors import TrainingError
from dolly_assets.training import kernels
from dolly_assets.training.checkpoint.snapshot import Snapshots
from dolly_assets.training.checkpoint.universal import convert
from dolly_assets.training.checkpoint.unpickling import only_known_classes
from dolly_assets.training.deepspeed.config import deepspeed_config
from dolly_assets.training.loop.epochs import Epochs, TrainingObserver, as_callback
from dolly_assets.training.loop.stop import StopRequest
from dolly_assets.training.loop.trainer import load_trainer
from dolly_assets.training.packing.batches import RowDataset
from dolly_assets.training.process_group import (
    COLLECTIVE_TIMEOUT_SECONDS,
    be_the_only_rank_unless_launched,
    meet_other_ranks,
    rank_and_size,
    skip_shared_memory_op,
    wait_for_all_ranks,
)
from dolly_assets.training.recipe import Recipe

if TYPE_CHECKING:
    from transformers import TrainingArguments


@dataclass(frozen=True)
class FineTune:
    """What to train. All paths are folders of this machine."""

    recipe: Recipe
    weights: Path  # where the model starts from, with its tokenizer
    train: pa.Table  # columns row, input_ids, prompt_length
    first_epoch: int
    last_epoch: int
    scratch: Path
    resume_from: Path | None = (
        None  # a state's folder: of the end of epoch first_epoch - 1, or of within first_epoch
    )
    resume_ranks: int | None = None  # that saved this state, if not as many as now
    profile_dir: Path | None = None  # where the steps' timings go, if anywhere
    save_seconds: float = 900  # between saves in the middle of an epoch
    copy_bytes: int | None = (
        None  # host memory for a rank's copy of its state; what is free, if not said
    )
    hang_seconds: float = 600  # without a step, at least, before a rank counts as hung


def fine_tune(job: FineTune, follower: TrainingObserver, stop: StopRequest) -> None:
    """Trains epochs first_epoch…last_epoch.

    Every rank calls it; the caller then leaves the process group.

    Raises:
        TrainingStopped: The ranks were asked to stop; the follower was given the state.
        TrainingError: The data cannot fill one global batch, the ranks cannot share one, or a guard
            ends the training.
    """
    from transformers.trainer_callback import PrinterCallback

    skip_shared_memory_op()
    be_the_only_rank_unless_launched()
    dataset = RowDataset(
        job.train, global_batch_size=job.recipe.global_batch_size, seed=job.recipe.seed
    )
    if not len(dataset):
        raise TrainingError(
            f"{job.train.num_rows} training examples in {dataset.rows} rows cannot fill one global batch of "
            f"{job.recipe.global_batch_size} rows: lower recipe.global_batch_size or recipe.max_length, or add data"
        )
    is_resharded = job.resume_ranks is not None and job.recipe.zero_stage > 0
    arguments = training_arguments(job.recipe, job.scratch, load_universal=is_resharded)
    meet_other_ranks(arguments)
    resume_from = job.resume_from
    if resume_from and is_resharded:
        resume_from = _converted(resume_from, job.scratch / "universal")
    trainer, meter = load_trainer(
        job.recipe, job.weights, dataset, arguments, callbacks=[], profile_dir=job.profile_dir
    )
    trainer.remove_callback(PrinterCallback)
    epochs = Epochs(
        job,
        follower,
        stop,
        real_tokens=lambda: dataset.real_tokens,
        meter=meter,
        snapshots=Snapshots(trainer, job.copy_bytes),
        kernels=lambda: kernels.describe(trainer, packing=job.recipe.packing),
    )
    trainer.add_callback(
        as_callback(epochs, lambda: trainer.accelerator.optimizer_step_was_skipped)
    )
    try:
        with only_known_classes():
            trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    finally:
        epochs.close()


def _converted(state: Path, into: Path) -> Path:
    """The state for another number of ranks, converted by the first of them."""
    rank, _ = rank_and_size()
    if rank == 0:
        with only_known_classes():
            convert(state, into)
    wait_for_all_ranks()
    return into


def training_arguments(
    recipe: Recipe, scratch: Path, *, load_universal: bool = False
) -> "TrainingArguments":
    """The Trainer's arguments for a recipe on the ranks that are running now."""
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
        activation_checkpointing=recipe.gradient_checkpointing,
        seed=recipe.seed,
        train_sampling_strategy="sequential",  # the dataset is in the epoch's order already
        deepspeed=deepspeed_config(recipe, ranks, load_universal=load_universal),
        ddp_timeout=COLLECTIVE_TIMEOUT_SECONDS,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # `Epochs` does
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
        remove_unused_columns=False,
    )
