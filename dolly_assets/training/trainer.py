"""The Hugging Face Trainer under DeepSpeed with a loss over labelled tokens only, and a clock on every step."""

import inspect
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dolly_assets.profiling.steplog import StepLog
from dolly_assets.training import attention
from dolly_assets.training.batches import MicroBatch, PackingCollator, RowDataset
from dolly_assets.training.flops import ModelFlops
from dolly_assets.training.meter import StepMeter
from dolly_assets.training.recipe import Recipe

if TYPE_CHECKING:
    import torch.utils.data
    from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

_NOT_THE_MODELS = {"targets", "lengths", "examples", "global_labels"}


def load_trainer(
    recipe: Recipe,
    weights: Path,
    dataset: RowDataset,
    arguments: "TrainingArguments",
    *,
    callbacks: "Sequence[TrainerCallback]",
    profile_dir: Path | None,
) -> "Trainer":
    """Loads a model and what trains it. The ranks have met: with ZeRO 3 it is sharded over them as it loads."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    packed = attention.PackedAttention()
    packed.register()
    tokenizer = AutoTokenizer.from_pretrained(weights, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        weights, local_files_only=True, dtype=_dtype(recipe), attn_implementation=attention.NAME
    )
    model.config.use_cache = False
    rank = arguments.process_index
    log = StepLog(profile_dir, rank) if profile_dir else None
    return _new_trainer(
        LabelLoss(model, packed),
        StepMeter(ModelFlops.of(model), arguments.device, rank, log),
        model=model,
        args=arguments,
        train_dataset=cast("torch.utils.data.Dataset", dataset),
        data_collator=PackingCollator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )


def _dtype(recipe: Recipe) -> "torch.dtype":
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]


class LabelLoss:
    """Calls a model on a micro-batch for the loss of its labelled tokens."""

    def __init__(self, model: "PreTrainedModel", packed: attention.PackedAttention) -> None:
        self._packed = packed
        # An architecture that can't leave out logits computes them all, and what isn't asked for is left out here.
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def sum(self, model: "torch.nn.Module", batch: MicroBatch) -> "torch.Tensor":
        """Sum of the cross-entropies of the labelled tokens, in nats, as float32 whatever the model computes in."""
        import torch

        logits, targets = self.logits(model, batch), batch["targets"]
        return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")

    def logits(self, model: "torch.nn.Module", batch: MicroBatch) -> "torch.Tensor":
        """(labelled tokens, vocabulary)."""
        inputs = {name: value for name, value in batch.items() if name not in _NOT_THE_MODELS}
        keep = batch["logits_to_keep"]
        self._packed.begin(batch["lengths"], batch["input_ids"].device)
        if self._keeps:
            return model(**inputs, use_cache=False).logits.flatten(0, -2)
        del inputs["logits_to_keep"]
        logits = model(**inputs, use_cache=False).logits
        return logits[keep] if keep.ndim == 2 else logits[0, keep]


def _new_trainer(loss: LabelLoss, meter: StepMeter, **arguments: Any) -> "Trainer":
    """A Trainer; arguments are the Trainer's own. Its batches are MicroBatches, its engine is DeepSpeed's."""
    from transformers import Trainer

    class LabelTrainer(Trainer):
        # Not one of the base class's means: the sum is divided by the labels of the whole global batch.
        loss_is_scaled_for_ga = True

        def __init__(self) -> None:
            super().__init__(**arguments)
            self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
            self._next: tuple[Iterator[Any], Future[list[MicroBatch]]] | None = None

        def get_batch_samples(
            self, epoch_iterator: Iterator[Any], num_batches: int, device: "torch.device"
        ) -> tuple[list[Any], None]:
            """A step's micro-batches; the next step's are made while it computes."""
            meter.begin()
            with meter.phase("data"):
                if self._next is None or self._next[0] is not epoch_iterator:
                    self._load(epoch_iterator, num_batches)
                assert self._next
                batches = self._next[1].result()
                self._load(epoch_iterator, num_batches)
            return batches, None

        def _load(self, epoch_iterator: Iterator[Any], count: int) -> None:
            self._next = epoch_iterator, self._loader.submit(lambda: list(islice(epoch_iterator, count)))

        def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> "torch.Tensor":
            """Forward, backward and, after the last micro-batch, the optimizer."""
            model.train()
            with meter.phase("data"):
                batch = cast(MicroBatch, self._prepare_inputs(inputs))
            meter.count(batch)
            with meter.phase("forward"):
                part = loss.sum(model, batch) / batch["global_labels"]
            with meter.phase("backward"):
                is_last = self.accelerator.sync_gradients
                model.set_gradient_accumulation_boundary(is_last)
                # DeepSpeed takes the mean over the ranks, where the sum is wanted.
                model.backward(part * self.args.world_size, scale_wrt_gas=False)
            if is_last:
                with meter.phase("optimizer"):
                    model.step()
            return part.detach() * self.args.world_size  # the Trainer logs the mean over the ranks

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            """The step's loss is known."""
            if "loss" in logs:
                meter.end(self.state.global_step, math.ceil(self.state.epoch or 0))
            super().log(logs, start_time)

    return LabelTrainer()
