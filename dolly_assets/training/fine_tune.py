"""The fine-tune itself: DeepSpeed under the Hugging Face Trainer, over a range of epochs.

It knows folders and numbers, not artifacts: it starts from a weights folder (or goes on from a checkpoint folder), and
hands every finished epoch to the caller as a checkpoint folder with its figures. The order of examples, the rate and
dropout at step n do not depend on where a range begins, so epochs 1-3 in one go or one by one give the same weights.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dolly_assets.errors import TrainingError
from dolly_assets.training.batches import RowDataset
from dolly_assets.training.deepspeed_config import deepspeed_config
from dolly_assets.training.recipe import Recipe
from dolly_assets.training.steps import Step
from dolly_assets.training.trainer import load_trainer

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainingArguments

PROGRESS_SECONDS = 5.0
# Ranks wait for the first one while it waits for an upload that is slower than an epoch.
COLLECTIVE_TIMEOUT_SECONDS = 4 * 3600
# What torchrun tells a rank (https://docs.pytorch.org/docs/stable/elastic/run.html), for the only one. Port 0 is any.
ONLY_RANK = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "0",
}


@dataclass(frozen=True)
class EpochResult:
    """A finished epoch: where its checkpoint lies and what it took."""

    epoch: int
    checkpoint: Path
    started_at: float  # seconds since the Unix epoch
    ended_at: float
    steps: tuple[Step, ...]
    real_tokens: int  # of the examples trained on, padding not counted

    @property
    def loss(self) -> float:
        """Mean training loss of the epoch's steps, in nats per labelled token."""
        return math.fsum(step.loss for step in self.steps) / len(self.steps)

    @property
    def tokens_per_second(self) -> float:
        """Real tokens per second, saving and evaluation not counted."""
        return self.real_tokens / (self.ended_at - self.started_at)


@dataclass(frozen=True)
class FineTune:
    """What to train. All paths are folders of this machine."""

    recipe: Recipe
    weights: Path  # where the model starts from, with its tokenizer
    train: pa.Table  # columns row, input_ids, prompt_length
    first_epoch: int
    last_epoch: int
    scratch: Path
    resume_from: Path | None = None  # a checkpoint folder of epoch first_epoch - 1
    profile_dir: Path | None = None  # where the steps' timings go, if anywhere


def fine_tune(
    job: FineTune,
    *,
    on_start: Callable[[], None],
    on_epoch: Callable[[EpochResult], None],
    log: Callable[[str], None],
) -> None:
    """Trains epochs first_epoch…last_epoch. Every rank calls it, and on every rank the callbacks are called.

    `on_start` is called when the model is loaded and the first step is about to begin. The checkpoint folder handed to
    `on_epoch` is the callee's to move or delete.

    Raises:
        TrainingError: The data cannot fill one global batch, the ranks cannot share one, or the loss is not finite.
    """
    from transformers.trainer_callback import PrinterCallback

    skip_shared_memory_op()
    be_the_only_rank_unless_launched()
    dataset = RowDataset(job.train, global_batch_size=job.recipe.global_batch_size, seed=job.recipe.seed)
    if not len(dataset):
        raise TrainingError(
            f"{job.train.num_rows} training examples in {dataset.rows} rows cannot fill one global batch of "
            f"{job.recipe.global_batch_size} rows: lower recipe.global_batch_size or recipe.max_length, or add data"
        )
    arguments = training_arguments(job.recipe, job.scratch)
    meet_other_ranks(arguments)
    trainer, _ = load_trainer(
        job.recipe,
        job.weights,
        dataset,
        arguments,
        callbacks=[_epochs_callback(job, dataset, on_start, on_epoch, log)],
        profile_dir=job.profile_dir,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(job.resume_from) if job.resume_from else None)
    leave_other_ranks()


def meet_other_ranks(arguments: "TrainingArguments") -> None:
    """Joins the process group. Before the model is loaded: with ZeRO 3 it is sharded over the ranks as it loads."""
    import deepspeed

    _ = arguments.device  # the Trainer's own way, which on CPUs leaves DeepSpeed out
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(dist_backend="gloo")


def leave_other_ranks() -> None:
    """Leaves the process group in good order: its threads, still running at exit, can abort a process that is done."""
    import torch.distributed

    wait_for_all_ranks()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def skip_shared_memory_op() -> None:
    """Keeps DeepSpeed from compiling its shared-memory op when it starts on CPU ranks.

    Only `inference_all_reduce` uses it, which training never calls; compiling takes a compiler and some 40 s.
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def be_the_only_rank_unless_launched() -> None:
    """Lets one process train without torchrun: DeepSpeed would else look for MPI."""
    if "RANK" not in os.environ:
        os.environ.update(ONLY_RANK)


def training_arguments(recipe: Recipe, scratch: Path) -> "TrainingArguments":
    """The Trainer's arguments for a recipe on the ranks that are running now."""
    import torch
    from transformers import TrainingArguments

    ranks = int(os.environ.get("WORLD_SIZE", "1"))
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
        deepspeed=deepspeed_config(recipe, ranks),
        ddp_timeout=COLLECTIVE_TIMEOUT_SECONDS,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="epoch",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
        remove_unused_columns=False,
    )


def _epochs_callback(
    job: FineTune,
    dataset: RowDataset,
    on_start: Callable[[], None],
    on_epoch: Callable[[EpochResult], None],
    log: Callable[[str], None],
) -> "TrainerCallback":
    """Follows the Trainer: collects steps, logs progress, hands over epochs, stops after the last one."""
    from transformers import TrainerCallback

    class Epochs(TrainerCallback):
        def __init__(self) -> None:
            self.epoch = job.first_epoch
            self.steps: list[Step] = []
            self.started_at = self.ended_at = self.logged_at = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            on_start()

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.steps = []
            self.started_at = self.logged_at = time.time()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            if not math.isfinite(logs["loss"]):
                raise TrainingError(
                    f"the loss of epoch {self.epoch} became {logs['loss']} at step {state.global_step}: lower "
                    "recipe.learning_rate, add warmup_steps, or look at the examples; the epoch is not published"
                )
            now = time.time()
            self.steps.append(
                Step(state.global_step, logs["loss"], logs["learning_rate"], float(logs.get("grad_norm", 0.0)), now)
            )
            if now - self.logged_at >= PROGRESS_SECONDS:
                self.logged_at = now
                log(self.progress(round(state.max_steps / job.recipe.epochs)))

        def progress(self, steps_per_epoch: int) -> str:
            done = len(self.steps)
            elapsed = self.steps[-1].ended_at - self.started_at
            rate = dataset.real_tokens * done / steps_per_epoch / elapsed
            left = elapsed / done * (steps_per_epoch - done)
            return (
                f"epoch {self.epoch} of {job.first_epoch}-{job.last_epoch}: step {done}/{steps_per_epoch}, "
                f"loss {self.steps[-1].loss:.3f}, {rate:,.0f} tokens/s, {left:.0f} s left in this epoch"
            )

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.ended_at = time.time()
            if self.epoch == job.last_epoch:
                control.should_training_stop = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            wait_for_all_ranks()  # each rank writes its own part of the checkpoint
            on_epoch(
                EpochResult(
                    epoch=self.epoch,
                    checkpoint=Path(args.output_dir) / f"checkpoint-{state.global_step}",
                    started_at=self.started_at,
                    ended_at=self.ended_at,
                    steps=tuple(self.steps),
                    real_tokens=dataset.real_tokens,
                )
            )
            self.epoch += 1

    return Epochs()


def wait_for_all_ranks() -> None:
    """Returns when every rank has come here."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.barrier()
