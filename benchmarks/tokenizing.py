"""Compare tokenizing and packing with the tokenizer's bare `encode_batch` and with `datasets.map`.

    python benchmarks/tokenizing.py [--examples 52000] [--repeats 3] [--data alpaca.json] [--model
    FOLDER]

Ours is everything from the raw table to the written folder: prompts, encoding, the split, packing,
statistics with their picture, files. `encode_batch` gets the finished texts and returns its
encodings, nothing more; `datasets.map` calls the tokenizer per batch of 1,000 texts and writes its
Arrow cache. They take turns; the best time of each counts. By default the records are generated,
with Alpaca's lengths, and the tokenizer is trained on some of them.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dolly_assets.storage.conventions import PICTURE_FILE
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.statistics import length_histogram_png
from dolly_assets.tokenization.tokenize import tokenize

STYLE = PromptStyle()
VOCABULARY_SIZE = 32_000
COLUMNS = ("instruction", "context", "response", "category")


def generated(examples: int) -> pa.Table:
    """Return records of made-up words, some of them frequent, with the lengths of Alpaca's."""
    random = np.random.default_rng(7)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    words = np.array(
        ["".join(random.choice(letters, size)) for size in random.integers(1, 11, 20_000)]
    )
    frequency = 1 / np.arange(1, len(words) + 1)
    frequency /= frequency.sum()

    def texts(mean: float, spread: float) -> list[str]:
        sizes = np.maximum(1, random.lognormal(np.log(mean), spread, examples)).astype(int)
        drawn = random.choice(words, int(sizes.sum()), p=frequency)
        return [
            " ".join(part).capitalize() + "." for part in np.split(drawn, np.cumsum(sizes)[:-1])
        ]

    contexts = [
        text if has else ""
        for text, has in zip(texts(12, 0.8), random.random(examples) < 0.4, strict=True)
    ]
    return pa.table(
        [texts(10, 0.4), contexts, texts(35, 0.9), [""] * examples], names=list(COLUMNS)
    )


def read(file: Path, examples: int) -> pa.Table:
    """Return records of an Alpaca-like JSON file, repeated as often as needed."""
    records = json.loads(file.read_text(encoding="utf-8"))
    records = (records * -(-examples // len(records)))[:examples]
    names = {"instruction": "instruction", "context": "input", "response": "output"}
    columns = {name: [record[source] for record in records] for name, source in names.items()}
    return pa.table({**columns, "category": [""] * examples})


def trained_tokenizer(texts: list[str]) -> Any:
    """Return a byte-level BPE tokenizer like GPT-2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")


def ours(table: pa.Table, tokenizer: Any, folder: Path) -> None:
    """Do what the worker does between fetching and publishing."""
    tokenized = tokenize(
        table, tokenizer, STYLE, max_length=2048, packing=True, held_out_examples=1000, seed=42
    )
    tokenized.write(folder / "out")
    (folder / "out" / PICTURE_FILE).write_bytes(length_histogram_png(tokenized.statistics))
    print(
        f"  encoder {tokenized.statistics['encoder']}, "
        f"row fill {tokenized.statistics['row_fill']:.4f}"
    )


def datasets_map(texts: list[str], tokenizer: Any, folder: Path) -> None:
    """`datasets.map` in batches, as the Dolly scripts do it."""
    from datasets import Dataset

    dataset = Dataset.from_dict({"text": texts})
    dataset.map(
        lambda batch: tokenizer(batch["text"]),
        batched=True,
        remove_columns=["text"],
        cache_file_name=str(folder / "map.arrow"),
        load_from_cache_file=False,
    )


def main() -> None:
    """Run the contenders in turn and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=52_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()

    from datasets import disable_progress_bars
    from transformers import AutoTokenizer

    disable_progress_bars()
    table = (
        read(arguments.data, arguments.examples)
        if arguments.data
        else generated(arguments.examples)
    )
    records = zip(*(table[name].to_pylist() for name in COLUMNS[:3]), strict=True)
    texts = [
        STYLE.prompt(instruction, context) + STYLE.completion(response)
        for instruction, context, response in records
    ]
    tokenizer = (
        AutoTokenizer.from_pretrained(arguments.model)
        if arguments.model
        else trained_tokenizer(texts[:5000])
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(STYLE.special_tokens)})
    contenders: dict[str, Callable[[Path], object]] = {
        "ours": lambda folder: ours(table, tokenizer, folder),
        "encode_batch": lambda _: len(
            tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        ),
        "datasets_map": lambda folder: datasets_map(texts, tokenizer, folder),
    }
    seconds = dict.fromkeys(contenders, float("inf"))
    for _ in range(arguments.repeats):
        for name, contender in contenders.items():
            with tempfile.TemporaryDirectory() as folder:
                began_at = time.perf_counter()
                contender(Path(folder))
                took = time.perf_counter() - began_at
            seconds[name] = min(seconds[name], took)
            print(f"{name:<14} {took:7.2f} s  {len(texts) / took:10,.0f} examples/s", flush=True)
    print(f"ratio tokenize.vs_encode_batch {seconds['encode_batch'] / seconds['ours']:.2f}")
    print(f"ratio tokenize.vs_datasets_map {seconds['datasets_map'] / seconds['ours']:.2f}")


if __name__ == "__main__":
    main()
