"""Compare the loss curve of one training, packed and padded, over numbers of ranks and ZeRO stages.

    python benchmarks/invariance.py [--quick]

A tiny Llama and a tiny GPT-NeoX train on the same global batches in float32 on CPU ranks, more of
them than cores if need be. The reference is written here and shares nothing with the training but
the order of the rows: plain PyTorch, one example at a time, AdamW, clipping, and a learning rate
that warms up and decays. The table lists the largest deviations of losses and gradient norms from
it over all steps; without ZeRO, DeepSpeed reports no norm. Exit code 1 if a loss deviates by more
than TOLERANCE.
"""

import argparse
import math
import multiprocessing
import os
import random
import socket
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dolly_assets.training.packing.batches import RowDataset, rows_by_step
from dolly_assets.training.recipe import Recipe

# Relative, of a loss: float32 keeps 6e-8, and Adam's first steps are as large for gradients that
# are nearly nothing.
TOLERANCE = 2e-6
# In bf16, which keeps 4e-3, against the same float32 curve.
BF16_TOLERANCE = 1e-2
GLOBAL_BATCH = 8
STEPS_PER_EPOCH, EPOCHS = 3, 2
VOCABULARY = 320
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {**SIZES, "num_key_value_heads": 2, "initializer_range": 0.2},
    "gpt_neox": {
        **SIZES,
        "initializer_range": 0.2,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
    },
}
RANK = {
    "DS_ACCELERATOR": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "DS_LOG_LEVEL": "error",
    "PYTHONWARNINGS": "ignore",  # torch's deprecations, which are DeepSpeed's to heed
}

Curve = list[tuple[float, float]]  # loss and gradient norm of every step


@dataclass(frozen=True)
class Case:
    """One way to compute a global batch."""

    packing: bool
    ranks: int
    zero_stage: int
    accumulation: int
    precision: str = "fp32"
    gradients: str | None = None
    labels: int | None = None  # in a chunk of the loss; all in one by default, and 0: all logits

    def recipe(self) -> Recipe:
        """Everything else is the same in every case."""
        return Recipe(
            epochs=EPOCHS,
            max_length=64,
            packing=self.packing,
            held_out_examples=1,
            global_batch_size=GLOBAL_BATCH,
            micro_batch_size=GLOBAL_BATCH // self.ranks // self.accumulation,
            learning_rate=3e-3,
            scheduler="linear",
            warmup_steps=2,
            weight_decay=0.1,
            precision=self.precision,  # pyright: ignore[reportArgumentType]
            gradient_precision=self.gradients,  # pyright: ignore[reportArgumentType]
            zero_stage=self.zero_stage,  # pyright: ignore[reportArgumentType]
            loss="full" if self.labels == 0 else "chunked",
        )

    def __str__(self) -> str:
        rows = "packed" if self.packing else "padded"
        if self.labels is not None:
            rows += f", loss in chunks of {self.labels}" if self.labels else ", all logits at once"
        formats = self.precision if self.precision == "fp32" else self._formats()
        return f"{rows} | {formats} | {self.ranks} | {self.zero_stage} | {self.accumulation}"

    def _formats(self) -> str:
        return f"bf16, gradients in {self.gradients or 'fp32'}"


def cases(*, quick: bool) -> Iterator[Case]:
    """Those of the table."""
    yield Case(packing=True, ranks=1, zero_stage=0, accumulation=4)
    yield Case(packing=True, ranks=2, zero_stage=3, accumulation=1, labels=5)
    if quick:
        yield Case(packing=False, ranks=2, zero_stage=3, accumulation=1)
        return
    yield Case(packing=True, ranks=1, zero_stage=0, accumulation=1, labels=0)
    yield Case(packing=True, ranks=1, zero_stage=0, accumulation=1, labels=5)
    yield Case(packing=False, ranks=1, zero_stage=2, accumulation=2, labels=5)
    yield Case(packing=False, ranks=1, zero_stage=0, accumulation=1)
    yield Case(packing=False, ranks=1, zero_stage=0, accumulation=GLOBAL_BATCH)  # one by one
    yield Case(packing=False, ranks=2, zero_stage=2, accumulation=1)
    for ranks, accumulation in ((1, 1), (2, 1), (2, 4), (4, 1)):
        for stage in range(4):
            yield Case(packing=True, ranks=ranks, zero_stage=stage, accumulation=accumulation)


def bf16_cases(*, quick: bool) -> Iterator[Case]:
    """Return the rows of one global batch in bf16, gradients summed in float32 and in bf16."""
    shares = ((1, 1), (1, 8), (2, 4)) if quick else ((1, 1), (1, 8), (2, 1), (2, 4), (4, 2))
    for gradients in (None, "bf16"):
        for stage in (2,) if quick else (1, 2, 3):
            for ranks, accumulation in shares:
                yield Case(
                    packing=True,
                    ranks=ranks,
                    zero_stage=stage,
                    accumulation=accumulation,
                    precision="bf16",
                    gradients=gradients,
                )


def write_model(name: str, folder: Path) -> None:
    """Random weights and a tokenizer."""
    from dolly_assets.training.base_model import BaseModelConfig, prepare

    untrained = {
        "config": {"model_type": name, "max_position_embeddings": 64, **MODELS[name]},
        "vocabulary_size": VOCABULARY,
    }
    base = BaseModelConfig.model_validate({"untrained": untrained, "license": "apache-2.0"})
    prepare(
        base,
        special_tokens=["### End"],
        texts=lambda: ["a few words"],
        out=folder,
        log=lambda _: None,
    )


def examples() -> pa.Table:
    """Random tokens in rows of one to three examples; lengths and labelled parts differ much."""
    chance = random.Random(5)
    rows = [
        row for row in range(GLOBAL_BATCH * STEPS_PER_EPOCH) for _ in range(chance.randint(1, 3))
    ]
    lengths = [chance.randint(4, 21) for _ in rows]
    return pa.table(
        {
            "row": pa.array(rows, pa.int32()),
            "input_ids": pa.array(
                [[chance.randrange(256) for _ in range(n)] for n in lengths], pa.list_(pa.int32())
            ),
            "prompt_length": pa.array(
                [chance.randint(1, length - 1) for length in lengths], pa.int32()
            ),
        }
    )


def oracle(weights: Path) -> Curve:
    """Plain PyTorch, one example at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    recipe, table = (
        Case(packing=True, ranks=1, zero_stage=0, accumulation=1).recipe(),
        examples().to_pylist(),
    )
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).train()
    # Matrices decay; biases and the weights of norms, which have one dimension, do not.
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups, betas=(recipe.adam_beta1, recipe.adam_beta2), eps=recipe.adam_epsilon
    )
    curve: Curve = []
    total = EPOCHS * STEPS_PER_EPOCH
    for epoch in range(EPOCHS):
        for rows in rows_by_step(
            GLOBAL_BATCH * STEPS_PER_EPOCH,
            global_batch_size=GLOBAL_BATCH,
            seed=recipe.seed,
            epoch=epoch,
        ):
            batch = [example for example in table if example["row"] in rows]
            labels = sum(len(example["input_ids"]) - example["prompt_length"] for example in batch)
            loss = 0.0
            for example in batch:
                ids = torch.tensor([example["input_ids"]])
                predicted = model(ids, use_cache=False).logits[0, example["prompt_length"] - 1 : -1]
                part = torch.nn.functional.cross_entropy(
                    predicted, ids[0, example["prompt_length"] :], reduction="sum"
                )
                (part / labels).backward()
                loss += part.item() / labels
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
            done = len(curve)
            rate = (
                done / recipe.warmup_steps
                if done < recipe.warmup_steps
                else (total - done) / (total - recipe.warmup_steps)
            )
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * rate
            optimizer.step()
            optimizer.zero_grad()
            curve.append((loss, norm.item()))
    return curve


def trained(case: Case, weights: Path, scratch: Path, variables: dict[str, str]) -> Curve:
    """One rank of the training as it is."""
    os.environ.update(variables)
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    from dolly_assets.training.loop.example_losses import ExampleLosses
    from dolly_assets.training.loop.fine_tune import training_arguments
    from dolly_assets.training.loop.trainer import load_trainer
    from dolly_assets.training.packing import chunks
    from dolly_assets.training.process_group import leave_other_ranks, meet_other_ranks
    from dolly_assets.training.seams import skip_shared_memory_op

    skip_shared_memory_op()
    recipe, curve = case.recipe(), []
    if case.labels:
        chunks.CHUNK_BYTES["cpu"] = 4 * VOCABULARY * case.labels

    class Keep(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                curve.append((float(logs["loss"]), float(logs.get("grad_norm") or math.nan)))

    arguments = training_arguments(recipe, scratch)
    meet_other_ranks(arguments)
    arguments.set_save(strategy="no")
    dataset = RowDataset(examples(), global_batch_size=GLOBAL_BATCH, seed=recipe.seed)
    trainer, _ = load_trainer(
        recipe,
        weights,
        dataset,
        arguments,
        losses=ExampleLosses(),
        callbacks=[Keep()],
        profile_dir=None,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    leave_other_ranks()
    return curve


def run(pool: ProcessPoolExecutor, case: Case, weights: Path, scratch: Path) -> Curve:
    """All ranks of a training, in fresh processes; what the first of them saw."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "WORLD_SIZE": case.ranks,
        "LOCAL_WORLD_SIZE": case.ranks,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    variables = [
        {name: str(value) for name, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
        for rank in range(case.ranks)
    ]
    futures = [pool.submit(trained, case, weights, scratch, each) for each in variables]
    curves = [future.result(timeout=300) for future in futures]
    assert all(np.array_equal(curve, curves[0], equal_nan=True) for curve in curves)
    return curves[0]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few cases of each model")
    quick = parser.parse_args().quick
    os.environ.update(RANK)  # before the server of forks starts, which hands them on
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["deepspeed", "transformers.trainer", "transformers.integrations.deepspeed"]
    )
    worst = 0.0
    print(
        "| model | rows | precision | ranks | ZeRO | accumulation "
        "| loss, abs. | loss, rel. | gradient norm, rel. |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(4, mp_context=context, max_tasks_per_child=1) as pool,
    ):
        for name in MODELS:
            weights = Path(scratch) / name
            pool.submit(write_model, name, weights).result()
            expected = np.array(pool.submit(oracle, weights).result())
            for case in (*cases(quick=quick), *bf16_cases(quick=quick)):
                found = np.array(run(pool, case, weights, Path(scratch) / "trainer"))
                apart = abs(found - expected)
                loss, norm = (apart / expected).max(axis=0)
                reported = f"{norm:.1e}" if math.isfinite(norm) else "not reported"
                limit = TOLERANCE if case.precision == "fp32" else BF16_TOLERANCE
                worst = max(worst, loss / limit)
                print(
                    f"| {name} | {case} | {apart[:, 0].max():.1e} | {loss:.1e} | {reported} |",
                    flush=True,
                )
            print(
                f"{name}: losses of the oracle {np.round(expected[:, 0], 4).tolist()}",
                file=sys.stderr,
            )
    return int(not worst <= 1)


if __name__ == "__main__":
    sys.exit(main())
