"""Tokens per second of answers, beside transformers' pipeline, and whether they are the same.

    python benchmarks/generation.py FOLDER FILE [--prompts 64] [--tokens 64] [--batch-size 16]

FOLDER is the `weights/` of an epoch, or any model with a chat template; FILE is JSONL with an
`instruction` or `messages` in each line. All decode greedily, in this order in one process: the
pipeline one prompt at a time, the pipeline in static batches, static batches of the platform, and
its continuous batches. Exit code 1 if an answer of the platform differs from the pipeline's.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.generation.answer import Batching, answers_in_batches
from dolly_assets.generation.model import load


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer, at most")
    parser.add_argument("--batch-size", type=int, default=16)
    arguments = parser.parse_args()
    model, tokenizer = load(arguments.folder, dtype="float32")
    with arguments.file.open(encoding="utf-8") as lines:
        prompts = [_prompt(tokenizer, line) for line in islice(lines, arguments.prompts)]
    size, tokens = arguments.batch_size, arguments.tokens

    def piped(batch_size: int) -> list[str]:
        return _piped(model, tokenizer, prompts, tokens, batch_size)

    def ours(batching: Batching) -> list[str]:
        return answers_in_batches(
            model,
            tokenizer,
            [tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompts],  # pyright: ignore[reportArgumentType]
            end_token_ids=[int(tokenizer.eos_token_id)],  # pyright: ignore[reportArgumentType]
            max_new_tokens=tokens,
            batch_size=size,
            batching=batching,
        )

    print("| answers | seconds | tokens/s | against one at a time | equal answers |")
    print("| --- | ---: | ---: | ---: | ---: |")
    ways: dict[str, Callable[[], list[str]]] = {
        "pipeline, one at a time": lambda: piped(1),
        f"pipeline, batches of {size}": lambda: piped(size),
        f"static, {size}": lambda: ours("static"),
        f"continuous, {size}": lambda: ours("continuous"),
    }
    reference, first, same = [], 0.0, True
    for name, way in ways.items():
        began = time.perf_counter()
        try:
            answers = way()
        except ConfigurationError as error:
            print(f"| {name} | {error} | | | |", flush=True)
            continue
        seconds = time.perf_counter() - began
        reference, first = reference or answers, first or seconds
        equal = sum(map(str.__eq__, answers, reference))
        same &= equal == len(reference) or name.startswith("pipeline")
        rate = sum(len(tokenizer(text)["input_ids"]) for text in answers) / seconds  # pyright: ignore[reportArgumentType]
        print(
            f"| {name} | {seconds:.1f} | {rate:.0f} | {first / seconds:.2f} x | "
            f"{equal} of {len(reference)} |",
            flush=True,
        )
    return int(not same)


def _prompt(tokenizer: Any, line: str) -> str:
    record = json.loads(line)
    messages = record.get("messages") or [{"role": "user", "content": record["instruction"]}]
    asked = [each for each in messages if each["role"] != "assistant"]
    return tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)


def _piped(
    model: Any, tokenizer: Any, prompts: list[str], tokens: int, batch_size: int
) -> list[str]:
    from transformers import TextGenerationPipeline

    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    pipeline: Any = TextGenerationPipeline(model=model, tokenizer=tokenizer)
    found = pipeline(
        prompts,
        batch_size=batch_size,
        max_new_tokens=tokens,
        do_sample=False,
        return_full_text=False,
        eos_token_id=tokenizer.eos_token_id,
        add_special_tokens=False,
    )
    return [each[0]["generated_text"].strip() for each in found]


if __name__ == "__main__":
    sys.exit(main())
