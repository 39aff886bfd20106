"""Measures the steps from a JSONL file to rows of tokens: seconds and peak memory by size.

    python benchmarks/data.py --records 52000 1000000

Every step runs in a process of its own, on records like those of Alpaca (some 600 bytes of JSONL
each, 3 % of them exact and 3 % near duplicates), in a store below a temporary folder. Memory is
what Linux counts as anonymous at its peak: pages of mapped files, which the kernel takes back when
it needs them, are stated beside it.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

WORDS = 20_000
TOKENIZER_RECORDS = 20_000
HELD_OUT = 1_000
MAX_LENGTH = 1_024


def write_records(path: Path, records: int) -> None:
    """Write records of words, whose frequencies follow Zipf's law."""
    rng = np.random.default_rng(0)
    letters = np.array([*"abcdefghijklmnopqrstuvwxyz"])
    vocabulary = np.array(
        ["".join(rng.choice(letters, 2 + number % 9)) for number in range(WORDS)], dtype=object
    )
    earlier: list[dict[str, str]] = []
    with path.open("w") as out:
        for number in range(records):
            kind = rng.random()
            if earlier and kind < 0.03:
                record = earlier[int(rng.integers(len(earlier)))]
            elif earlier and kind < 0.06:
                record = dict(earlier[int(rng.integers(len(earlier)))])
                record["response"] += " indeed"
            else:
                places = np.minimum(rng.zipf(1.2, 95) - 1, WORDS - 1)
                words = vocabulary[places]
                record = {
                    "instruction": " ".join(words[:14]) + f" {number}?",
                    "context": " ".join(words[14:20]) if number % 3 == 0 else "",
                    "response": " ".join(words[20:]),
                    "category": "words",
                }
                if len(earlier) < 10_000:
                    earlier.append(record)
            out.write(json.dumps(record) + "\n")


def train_tokenizer(jsonl: Path, folder: Path) -> None:
    """Train a byte-level BPE tokenizer of GPT-2's kind on the first records."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from dolly_assets.tokenization.prompt_style import PromptStyle

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    special = ["<|endoftext|>", *PromptStyle().special_tokens]
    trainer = trainers.BpeTrainer(
        vocab_size=20_000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with jsonl.open() as lines:
        texts = [
            json.loads(line)["response"]
            for line, _ in zip(lines, range(TOKENIZER_RECORDS), strict=False)
        ]
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=special[0],
        additional_special_tokens=special[1:],
    ).save_pretrained(folder)


def read(folder: Path) -> None:
    """Do what raw_dataset does: read, digest, write."""
    from dolly_assets.datasets.schema import content_digest
    from dolly_assets.datasets.sources import read_source
    from dolly_assets.storage.tables import write_parquet

    table = read_source(str(folder / "records.jsonl")).table
    content_digest(table)
    write_parquet(table, folder / "data.parquet")


def check(folder: Path) -> None:
    """Run the quality checks of the raw dataset."""
    from dolly_assets.datasets.quality.suite import check_dataset
    from dolly_assets.storage.tables import open_table

    check_dataset(open_table(folder / "data.parquet", "data.parquet"))


def tokenize(folder: Path) -> None:
    """Do what tokenized_dataset does, packed."""
    from transformers import AutoTokenizer

    from dolly_assets.storage.tables import open_table
    from dolly_assets.tokenization.prompt_style import PromptStyle
    from dolly_assets.tokenization.tokenize import tokenize as tokenized

    tokenized(
        open_table(folder / "data.parquet", "data.parquet"),
        AutoTokenizer.from_pretrained(folder / "tokenizer"),
        PromptStyle(),
        max_length=MAX_LENGTH,
        packing=True,
        held_out_examples=HELD_OUT,
        seed=0,
    ).write(folder / "tokenized")


def check_split(folder: Path) -> None:
    """Run the quality checks of the split."""
    from dolly_assets.datasets.quality.split import Split
    from dolly_assets.datasets.quality.suite import check_split as checked
    from dolly_assets.storage.tables import open_table

    sides = {
        side: np.unique(
            open_table(folder / "tokenized" / f"{side}.arrow", side)["record"].to_numpy()
        )
        for side in ("train", "held_out")
    }
    table = open_table(folder / "data.parquet", "data.parquet")
    checked(table, Split(**sides), markers=["### End"], prompts=[("Why?", "")])


def start_training(folder: Path) -> None:
    """Do what every rank does before its first step, and read a thousand rows."""
    from dolly_assets.storage.tables import open_table
    from dolly_assets.training.packing.batches import RowDataset

    table = open_table(folder / "tokenized" / "train.arrow", "train.arrow")
    rows = RowDataset(table, global_batch_size=8, seed=0)
    for place in range(min(1_000, len(rows))):
        rows[place]


STEPS: dict[str, Callable[[Path], None]] = {
    "read": read,
    "check": check,
    "tokenize": tokenize,
    "check split": check_split,
    "start training": start_training,
}


def measured(step: Callable[[Path], None], folder: Path) -> tuple[float, float, int, int]:
    """Return wall and CPU seconds, and the peaks of anonymous and of all memory in MB."""
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_measure, args=(step, folder, sender)
    )
    process.start()
    sender.close()
    found = receiver.recv()
    process.join()
    return found


def _measure(step: Callable[[Path], None], folder: Path, sender: object) -> None:
    peak, is_done = [0], threading.Event()

    def watch() -> None:
        while not is_done.wait(0.05):
            peak[0] = max(peak[0], _anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    step(folder)
    wall = time.perf_counter() - begun
    is_done.set()
    watcher.join()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    sender.send((wall, cpu, peak[0] // 10**6, usage.ru_maxrss * 1024 // 10**6))  # pyright: ignore[reportAttributeAccessIssue]


def _anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


def main() -> None:
    """Measure the sizes that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[52_000])
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if left out")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=[*STEPS])
    options = parser.parse_args()
    print(f"{'records':>11} {'step':<15} {'wall s':>8} {'CPU s':>8} {'anon MB':>8} {'peak MB':>8}")
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        os.environ["TMPDIR"] = temporary
        for records in options.records:
            folder = (options.folder or Path(temporary)) / str(records)
            folder.mkdir(exist_ok=True)
            if not (folder / "tokenizer").exists():
                write_records(folder / "records.jsonl", records)
                train_tokenizer(folder / "records.jsonl", folder / "tokenizer")
            for name in options.steps:
                wall, cpu, anonymous, peak = measured(STEPS[name], folder)
                print(
                    f"{records:>11,} {name:<15} {wall:>8.1f} {cpu:>8.1f} {anonymous:>8} {peak:>8}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
