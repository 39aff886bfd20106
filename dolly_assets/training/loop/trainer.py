"""The Hugging Face Trainer under DeepSpeed: a loss over labelled tokens only, and timed steps."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dolly_assets.profiling.series.steplog import StepLog
from dolly_assets.training import kernels
from dolly_assets.training.context import Context
from dolly_assets.training.flops import ModelFlops
from dolly_assets.training.loop.example_losses import ExampleLosses
from dolly_assets.training.loop.meter import StepMeter
from dolly_assets.training.lora import add_adapter, trained_parameters
from dolly_assets.training.lora.merge import check_mergeable
from dolly_assets.training.lora.new_tokens import new_token_ids
from dolly_assets.training.packing.attention import PackedAttention
from dolly_assets.training.packing.batches import MicroBatch, PackedRow, RowDataset
from dolly_assets.training.packing.chunks import needs_chunks
from dolly_assets.training.packing.layout import LayoutCollator
from dolly_assets.training.packing.loss import LabelLoss
from dolly_assets.training.packing.miniature import Reach
from dolly_assets.training.packing.self_check import LayoutTests
from dolly_assets.training.recipe import Recipe

if TYPE_CHECKING:
    import torch.utils.data
    from transformers import Trainer, TrainerCallback, TrainingArguments

# Packed sequences are filled up to a multiple of 64 tokens on GPUs: tensor cores multiply such
# shapes faster.
_GPU_MULTIPLE = 64


def load_trainer(
    recipe: Recipe,
    weights: Path,
    dataset: RowDataset,
    arguments: "TrainingArguments",
    *,
    losses: ExampleLosses,
    special_tokens: Sequence[str] = (),
    callbacks: "Sequence[TrainerCallback]",
    profile_dir: Path | None,
) -> "tuple[Trainer, StepMeter]":
    """Load a model, and return its Trainer and what measures its steps.

    The process group exists already, since ZeRO 3 shards the model as it loads. Training raises
    TrainingError if no layout of examples that the recipe allows is exact for the model.

    Args:
        recipe: How to train.
        weights: The folder to load the model and its tokenizer from.
        dataset: The rows to train on.
        arguments: The Trainer's arguments.
        losses: Gets the losses of the examples that are trained on.
        special_tokens: Those of the prompt style; LoRA trains those that are new to the model.
        callbacks: Callbacks of the Trainer, besides the self-check.
        profile_dir: Where the timings of the steps go, if anywhere.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kernels.use_fused_kernels(arguments)
    packed = PackedAttention()
    packed.register()
    tokenizer = AutoTokenizer.from_pretrained(weights, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        weights, local_files_only=True, dtype=_dtype(recipe)
    )
    if context := Context.of(model.config.to_dict()):
        context.check(recipe.max_length, "the base model")
    config, use_cache = model.config, getattr(model.config, "use_cache", None)
    loss, flops = LabelLoss(model, packed), ModelFlops.of(model)
    if recipe.lora:
        new_tokens = new_token_ids(tokenizer, special_tokens)
        model = add_adapter(model, recipe.lora, recipe.seed, new_tokens)
        flops = flops and flops.with_adapter(trained_parameters(model))
        if recipe.lora.merge:
            check_mergeable(model, weights)
    multiple = _GPU_MULTIPLE if arguments.device.type == "cuda" else 1
    collator = LayoutCollator(
        tokenizer.pad_token_id, packed=bool(recipe.packing), multiple=multiple
    )
    tests = LayoutTests(
        model,
        loss,
        packing=bool(recipe.packing),
        required=recipe.packing == "required",
        reach=Reach(recipe.max_length, recipe.max_length * recipe.micro_batch_size + multiple),
        single=recipe.micro_batch_size == 1,
    )
    callbacks = (_self_check(tests, collator, recipe), *callbacks)
    log = StepLog(profile_dir, arguments.process_index) if profile_dir else None
    meter = StepMeter(flops, arguments.device, arguments.process_index, recipe.precision, log)
    trainer = _new_trainer(
        loss,
        losses,
        meter,
        model=model,
        args=arguments,
        train_dataset=cast("torch.utils.data.Dataset", dataset),
        data_collator=collator,
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    if use_cache is not None:
        # The Trainer turns it off, and it is published; the loss passes False in every call anyway.
        config.use_cache = use_cache
    return trainer, meter


def _self_check(tests: LayoutTests, collator: LayoutCollator, recipe: Recipe) -> "TrainerCallback":
    from transformers import TrainerCallback

    class SelfCheck(TrainerCallback):
        def on_train_begin(
            self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
        ) -> None:
            layout = tests.choose(model)
            tokens = recipe.micro_batch_size * recipe.max_length
            chunked = recipe.loss == "chunked" and needs_chunks(model, tokens)
            collator.layout = tests.use_chunks(model, layout) if chunked else layout

    return SelfCheck()


def _dtype(recipe: Recipe) -> "torch.dtype":
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]


def _new_trainer(
    loss: LabelLoss, losses: ExampleLosses, meter: StepMeter, **arguments: Any
) -> "Trainer":
    """Return a Trainer over MicroBatches whose engine is DeepSpeed's.

    Args:
        loss: Computes the loss of a micro-batch.
        losses: Gets the losses of its examples.
        meter: Measures the steps.
        arguments: Arguments of the Trainer itself.
    """
    from transformers import Trainer

    class LabelTrainer(Trainer):
        # Keeps the base class from averaging over micro-batches: the sum of the losses is divided
        # by the labels of the whole global batch.
        loss_is_scaled_for_ga = True

        def __init__(self) -> None:
            super().__init__(**arguments)
            self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
            self._next: tuple[Iterator[Any], Future[list[MicroBatch]]] | None = None

        def get_batch_samples(
            self, epoch_iterator: Iterator[Any], num_batches: int, device: "torch.device"
        ) -> tuple[list[Any], None]:
            """Return a step's micro-batches; the next step's are prepared while it computes."""
            meter.begin()
            with meter.phase("data"):
                if self._next is None or self._next[0] is not epoch_iterator:
                    self._load(epoch_iterator, num_batches)
                assert self._next
                batches = self._next[1].result()
                self._load(epoch_iterator, num_batches)
            return batches, None

        def _load(self, epoch_iterator: Iterator[Any], count: int) -> None:
            self._next = (
                epoch_iterator,
                self._loader.submit(lambda: list(islice(epoch_iterator, count))),
            )

        def training_step(
            self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
        ) -> "torch.Tensor":
            """Run forward, backward and, after the last micro-batch, the optimizer."""
            model.train()
            with meter.phase("data"):
                batch = cast(MicroBatch, self._prepare_inputs(inputs))
            meter.count(batch)
            with meter.phase("forward"):
                total, of_tokens = loss.sum_and_parts(model, batch)
                part = total / batch["global_labels"]
            losses.add(batch, of_tokens)
            with meter.phase("backward"):
                is_last = self.accelerator.sync_gradients
                model.set_gradient_accumulation_boundary(is_last)
                # DeepSpeed averages over the ranks, where the sum is needed.
                model.backward(part * self.args.world_size, scale_wrt_gas=False)
            if is_last:
                with meter.phase("optimizer"):
                    model.step()
            return part.detach() * self.args.world_size  # the Trainer logs the mean over the ranks

        def floating_point_ops(self, inputs: dict[str, Any]) -> int:
            """Return nothing: the meter counts, and this would walk all parameters each time."""
            return 0

        def store_flos(self) -> None:
            """Do nothing: adding up over the ranks would wait for the device at every step."""

        def held_out_loss(self, rows: Sequence[PackedRow]) -> float:
            """Return the loss of examples, in nats per labelled token; the state stays as it is.

            Every rank computes all of it, so that it does not depend on how many there are.

            Args:
                rows: One example each; their global_labels are their own.
            """
            import torch

            model, size = cast("torch.nn.Module", self.model_wrapped), self.args.train_batch_size
            collator = cast(LayoutCollator, self.data_collator)
            parts = [[*rows[at : at + size]] for at in range(0, len(rows), size)]
            model.eval()
            with torch.no_grad():
                batches = [cast(dict[str, Any], collator(part)) for part in parts]
                losses = [
                    float(loss.sum(model, cast(MicroBatch, self._prepare_inputs(batch))))
                    for batch in batches
                ]
            model.train()
            return math.fsum(losses) / sum(row.global_labels for row in rows)

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            """End the measured step, once its loss is known."""
            if "loss" in logs:
                losses.end_step(self.state.global_step)
                meter.end(
                    self.state.global_step,
                    math.ceil(self.state.epoch or 0),
                    loss=logs["loss"],
                    learning_rate=logs.get("learning_rate"),
                    grad_norm=logs.get("grad_norm"),
                )
            super().log(logs, start_time)

    return LabelTrainer()
