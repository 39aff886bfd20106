"""Compare training with the plain way: real tokens per second, padding, and time lost to saving.

    python benchmarks/training.py [--data FILE --model PATH] [--rows 48] [--max-length 768] [--ranks
    2] [--repeats 1]
    python benchmarks/training.py --size 1b --precision bf16 --ranks 1 --rows 400  # on a GPU

The plain way is that of the Dolly scripts, on the same Trainer and DeepSpeed: batches of 8 and of
16 examples for each rank, padded to the longest of the batch and up to a multiple of 8, logits for
every token, the state saved in the training loop. Both train the same examples on the same model,
data type and ranks, in turns, each in fresh processes; ours takes as many rows for a step as hold
about the same number of examples. The first step, with its set-up, is not counted. The time lost to
saving lies between the last step of one epoch and the first of the next; ours copies the state in
that time, and writes it in a thread while the next epoch trains.

The default is a Llama of 30 million parameters with random weights, and random tokens with the
lengths of Alpaca's prompts and responses. For real ones, use `--data FILE` (as for `dolly datasets
add`) and `--model` (as for `base_model.source`). The reported arithmetic counts real tokens only,
so MFU (where the device's peak is known) is lower by what a contender spends on padding.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import torch
    from transformers import TrainerCallback

    from dolly_assets.training.checkpoint.snapshot import Snapshots
    from dolly_assets.training.flops import ModelFlops
    from dolly_assets.training.recipe import Recipe

# Quantiles of 999 Alpaca records, from the shortest to the longest in equal steps: tokens as
# SmolLM2 counts them. fmt: off
PROMPT_TOKENS = (
    27,
    29,
    30,
    31,
    31,
    32,
    32,
    33,
    33,
    33,
    34,
    34,
    34,
    35,
    35,
    36,
    36,
    37,
    37,
    38,
    39,
    40,
    41,
    41,
    42,
    43,
    44,
    45,
    46,
    47,
    49,
    50,
    51,
    53,
    55,
    57,
    60,
    64,
    70,
    83,
    196,
)
RESPONSE_TOKENS = (
    3,
    8,
    10,
    11,
    13,
    14,
    16,
    18,
    21,
    24,
    27,
    31,
    35,
    40,
    49,
    58,
    66,
    74,
    86,
    97,
    108,
    122,
    131,
    144,
    163,
    174,
    190,
    203,
    219,
    244,
    261,
    274,
    292,
    309,
    322,
    345,
    364,
    382,
    403,
    464,
    596,
)
# fmt: on
VOCABULARY = 16_384
# By parameters: hidden size, layers, heads, of which keys and values have, and the width between.
SIZES = {"30m": (512, 7, 8, 4, 1408), "1b": (2048, 16, 32, 8, 8192)}
EXAMPLES_PER_ROW = 4  # at most, on average: so many examples are drawn for each row
EPOCHS = 2  # the second ends with its first step: it shows what lies between them
BATCHES = (8, 16)
Precision = Literal["fp32", "bf16", "fp16"]


# --- what is trained on


def write_random(folder: Path, size: str, rows: int, max_length: int) -> None:
    """Return a model from its configuration, and random examples."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    hidden, layers, heads, key_heads, width = SIZES[size]
    config = AutoConfig.for_model(
        "llama",
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        intermediate_size=width,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "weights")
    words = Tokenizer(
        models.WordLevel({str(number): number for number in range(VOCABULARY)}, unk_token="0")
    )
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="0").save_pretrained(
        folder / "weights"
    )
    chance = np.random.default_rng(0)
    prompts, responses = (
        np.interp(
            chance.random(rows * EXAMPLES_PER_ROW * 2), np.linspace(0, 1, len(tokens)), tokens
        ).astype(int)
        for tokens in (PROMPT_TOKENS, RESPONSE_TOKENS)
    )
    ids = [chance.integers(VOCABULARY, size=length).tolist() for length in prompts + responses]
    write_table(folder, pa.table({"input_ids": ids, "prompt_length": prompts}), rows, max_length)


def write_real(folder: Path, data: Path, model: str, rows: int, max_length: int) -> None:
    """Return a real model, and real examples as the worker tokenizes them."""
    from transformers import AutoTokenizer

    from dolly_assets.datasets.formats import read_file
    from dolly_assets.tokenization.prompt_style import PromptStyle
    from dolly_assets.tokenization.tokenize import tokenize
    from dolly_assets.training.base_model import BaseModelConfig, prepare

    style, weights = PromptStyle(), folder / "weights"
    base = BaseModelConfig(source=model, license="unknown")
    prepare(base, special_tokens=style.special_tokens, texts=list, out=weights, log=print)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    raw = read_file(data, source=str(data)).table
    found = tokenize(
        raw, tokenizer, style, max_length=max_length, packing=True, held_out_examples=1, seed=0
    ).train
    write_table(folder, found.select(["input_ids", "prompt_length"]), rows, max_length)


def write_table(folder: Path, examples: pa.Table, rows: int, max_length: int) -> None:
    """Return as many examples as fill some rows, in random order, since packing sorts by length."""
    from dolly_assets.tokenization.pack import pack

    shuffled = examples.take(np.random.default_rng(1).permutation(len(examples)))
    lengths = np.array([len(ids) for ids in shuffled["input_ids"]])
    shuffled = shuffled.filter(
        pa.array((lengths <= max_length) & (lengths.cumsum() <= rows * max_length))
    )
    lengths = np.array([len(ids) for ids in shuffled["input_ids"]])
    table = shuffled.append_column("row", pa.array(pack(lengths, max_length))).sort_by("row")
    table = table.filter(pa.array(table["row"].to_numpy() < rows)).cast(
        pa.schema(
            {"input_ids": pa.list_(pa.int32()), "prompt_length": pa.int32(), "row": pa.int32()}
        )
    )
    with pa.ipc.new_file(folder / "train.arrow", table.schema) as writer:
        writer.write_table(table)


# --- the contenders: each function is a rank of its own


class Log:
    """What this rank's micro-batches held, and when its steps and epochs were over."""

    def __init__(self) -> None:
        self.batches: list[
            tuple[float, ...]
        ] = []  # real, processed and labelled tokens, and operations
        self.steps: list[float] = []
        self.epoch_ends: list[float] = []
        self.epoch_begins: list[float] = []

    def note(
        self, flops: "ModelFlops", lengths: Sequence[int], processed: int, labelled: int
    ) -> None:
        """Note the time at which a micro-batch is created."""
        self.batches.append(
            (sum(lengths), processed, labelled, flops.of_examples(lengths, labelled))
        )

    def callback(self) -> "TrainerCallback":
        """Return the Trainer's batches, and note the time of each."""
        from transformers import TrainerCallback

        log = self

        class Clock(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                log.steps.append(time.time())

            def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                log.epoch_begins.append(time.time())
                control.should_training_stop = (
                    len(log.epoch_begins) == EPOCHS
                )  # after the first step

            def on_epoch_end(self, *_: Any, **__: Any) -> None:
                log.epoch_ends.append(time.time())

        return Clock()


def plain(folder: Path, batch: int, precision: Precision, log: Log) -> None:
    """Train with the plain Trainer."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer

    from dolly_assets.training.flops import ModelFlops

    arguments = _arguments(_recipe(rows=batch, precision=precision, packing=False), folder)
    arguments.logging_steps, arguments.train_sampling_strategy, arguments.save_strategy = (
        10,
        "random",
        "epoch",
    )
    table = pa.ipc.open_file(pa.memory_map(str(folder / "train.arrow"))).read_all()

    def collate(examples: list[dict[str, Any]]) -> "dict[str, torch.Tensor]":
        longest = -(-max(len(example["input_ids"]) for example in examples) // 8) * 8
        shape = (len(examples), longest)
        input_ids, labels, mask = (
            torch.zeros(shape).long(),
            torch.full(shape, -100),
            torch.zeros(shape).long(),
        )
        for row, example in enumerate(examples):
            ids, prompt = torch.tensor(example["input_ids"]), example["prompt_length"]
            input_ids[row, : len(ids)], mask[row, : len(ids)] = ids, 1
            labels[row, prompt : len(ids)] = ids[prompt:]
        log.note(flops, mask.sum(1).tolist(), mask.numel(), int((labels[:, 1:] != -100).sum()))
        return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}

    model = AutoModelForCausalLM.from_pretrained(folder / "weights", dtype=torch.float32)
    model.config.use_cache = False
    counted = ModelFlops.of(model)
    assert counted
    flops = counted
    examples: Any = table.to_pylist()
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=collate,
        callbacks=[log.callback()],
    )
    trainer.train()


def ours(folder: Path, batch: int, precision: Precision, log: Log) -> None:
    """Packed rows."""
    from dolly_assets.training.checkpoint.snapshot import Snapshots
    from dolly_assets.training.flops import ModelFlops
    from dolly_assets.training.loop.example_losses import ExampleLosses
    from dolly_assets.training.loop.trainer import load_trainer
    from dolly_assets.training.packing.batches import MicroBatch, PackedRow, RowDataset

    table = pa.ipc.open_file(pa.memory_map(str(folder / "train.arrow"))).read_all()
    rows = round(
        batch * (table["row"].to_numpy()[-1] + 1) / len(table)
    )  # that hold about as many examples
    recipe = _recipe(rows=rows, precision=precision, packing=True)
    dataset = RowDataset(table, global_batch_size=recipe.global_batch_size, seed=0)
    arguments = _arguments(recipe, folder)
    trainer, _ = load_trainer(
        recipe,
        folder / "weights",
        dataset,
        arguments,
        losses=ExampleLosses(),
        callbacks=[log.callback()],
        profile_dir=None,
    )
    collate: Any = trainer.data_collator
    model: Any = trainer.model
    counted = ModelFlops.of(model)
    assert counted
    flops = counted

    def counting(rows: list[PackedRow]) -> Any:
        found: MicroBatch = collate(rows)
        lengths = found["lengths"][: found["examples"]]
        log.note(flops, lengths, found["input_ids"].numel(), found["targets"].numel())
        return found

    trainer.data_collator = counting
    trainer.add_callback(_saving(Snapshots(trainer), folder))
    trainer.train()


def _saving(snapshots: "Snapshots", folder: Path) -> "TrainerCallback":
    """Save an epoch as the worker does."""
    from transformers import TrainerCallback

    writer, pending = ThreadPoolExecutor(1), []

    class Saving(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            snapshots.reserve(folder / f"reserve-rank{args.process_index}")

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            while pending:
                pending.pop().result()
            name = f"state-{state.global_step}-rank{args.process_index}"
            pending.append(writer.submit(snapshots.take(folder / name, weights=True).write))

    return Saving()


def _recipe(*, rows: int, precision: Precision, packing: bool) -> "Recipe":
    from dolly_assets.training.recipe import Recipe

    return Recipe(
        epochs=EPOCHS,
        max_length=1024,
        packing=packing,
        held_out_examples=1,
        global_batch_size=rows * int(os.environ["WORLD_SIZE"]),
        micro_batch_size=rows,
        learning_rate=1e-5,
        precision=precision,
        zero_stage=1,
    )


def _arguments(recipe: "Recipe", folder: Path) -> Any:
    """Return the Trainer's arguments on ranks of one process group."""
    from dolly_assets.training.loop.fine_tune import training_arguments
    from dolly_assets.training.process_group import meet_other_ranks
    from dolly_assets.training.seams import skip_shared_memory_op

    skip_shared_memory_op()
    arguments = training_arguments(recipe, folder / "trainer")
    meet_other_ranks(arguments)
    return arguments


def contend(name: str, folder: Path, batch: int, precision: Precision) -> None:
    """One rank; writes what it logged."""
    import torch

    from dolly_assets.hardware.device_table import peak_flops
    from dolly_assets.training.process_group import leave_other_ranks

    log = Log()
    {"plain": plain, "ours": ours}[name](folder, batch, precision, log)
    peak = (
        peak_flops(torch.cuda.get_device_name(), precision) if torch.cuda.is_available() else None
    )
    (folder / f"log-{os.environ['RANK']}.json").write_text(json.dumps({**vars(log), "peak": peak}))
    leave_other_ranks()


# --- the comparison


def run(name: str, folder: Path, batch: int, ranks: int, precision: str) -> dict[str, float]:
    """Return tokens and FLOPs per second, processed per real token, MFU, seconds between epochs."""
    for state in folder.glob("state-*"):  # of an earlier turn
        shutil.rmtree(state)
    command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", __file__]
    process = subprocess.run(
        [sys.executable, *command, "--contender", name, str(folder), str(batch), precision],
        env={**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // ranks))},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        sys.exit(f"{name} failed:\n{process.stderr}")
    logs = [json.loads((folder / f"log-{rank}.json").read_text()) for rank in range(ranks)]
    ended_at = logs[0]["epoch_ends"][0]
    steps = sum(step <= ended_at for step in logs[0]["steps"])
    if steps < 2:
        sys.exit(
            f"an epoch of {name} has {steps} step of {batch} examples for each rank: "
            "it takes 2, so more --rows"
        )
    counted = np.array([log["batches"][1:steps] for log in logs]).sum(axis=(0, 1))
    seconds = ended_at - logs[0]["steps"][0]  # what the first step sets up is not counted
    return {
        "real": counted[0] / seconds,
        "labelled": counted[2] / seconds,
        "operations": counted[3] / seconds,
        "mfu": counted[3] / seconds / ranks / logs[0]["peak"] if logs[0]["peak"] else float("nan"),
        "processed_per_real": counted[1] / counted[0],
        "stall": logs[0]["epoch_begins"][1] - ended_at,
    }


def best(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the fastest of each."""
    fastest = max(found, key=lambda each: each["real"])
    return {**fastest, "stall": min(each["stall"] for each in found)}


def main() -> None:
    """Run the contenders in turns and print a table and the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="examples; default: random ones")
    parser.add_argument("--model", help="base model; default: a Llama of 30 million random weights")
    parser.add_argument("--rows", type=int, default=48, help="of the data, that are trained on")
    parser.add_argument("--max-length", type=int, default=768, help="of a row, in tokens")
    parser.add_argument(
        "--size", choices=SIZES, default="30m", help="of the model with random weights"
    )
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    if bool(options.data) != bool(options.model):
        parser.error("--data and --model go together")
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.data:
            write_real(folder, options.data, options.model, options.rows, options.max_length)
        else:
            write_random(folder, options.size, options.rows, options.max_length)
        for _ in range(options.repeats):
            for batch in BATCHES:
                for name in ("plain", "ours"):
                    turn = run(name, folder, batch, options.ranks, options.precision)
                    found.setdefault((name, batch), []).append(turn)
    figures = {key: best(each) for key, each in found.items()}
    print(
        f"{'':<7}{'batch':>6}{'real tokens/s':>15}{'labelled/s':>12}"
        f"{'processed/real':>16}{'TFLOP/s':>10}{'MFU':>6}"
        f"{'lost s/epoch':>14}"
    )
    for (name, batch), row in figures.items():
        mfu = "" if np.isnan(row["mfu"]) else f"{row['mfu']:.0%}"
        print(
            f"{name:<7}{batch:>6}{row['real']:>15,.0f}{row['labelled']:>12,.0f}{row['processed_per_real']:>16.3f}"
            f"{row['operations'] / 1e12:>10.3g}{mfu:>6}{row['stall']:>14.2f}"
        )
    for batch in BATCHES:
        ratio = figures["ours", batch]["real"] / figures["plain", batch]["real"]
        print(f"ratio training.batch{batch}.vs_reference {ratio:.2f}")
    print(f"ratio training.processed_per_real {figures['ours', 16]['processed_per_real']:.3f}")
    stalls = [min(figures[name, batch]["stall"] for batch in BATCHES) for name in ("ours", "plain")]
    print(f"ratio training.publish_stall.vs_reference {stalls[0] / stalls[1]:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contender"]:
        contend(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), cast("Precision", sys.argv[5]))
    else:
        main()
