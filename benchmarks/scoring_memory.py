"""Compare the memory planned for scoring with what it takes, on examples of the longest length.

    dolly train --model demo --dataset demo --epochs 1
    python benchmarks/scoring_memory.py --model demo --dataset demo

Each stage runs in a process of its own, which reports its peak resident memory, or that of its GPU.
The baseline is what a process takes that has only loaded the model.
"""

import argparse
import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from dolly_assets.core.environment import Environment
from dolly_assets.core.text import memory_size
from dolly_assets.pipeline.session import Session
from dolly_assets.planning.plan import plan
from dolly_assets.registry.estimate import plan_request
from dolly_assets.registry.model_folders import fetch
from dolly_assets.registry.training import Training


@dataclass(frozen=True)
class Stage:
    """What a process measures: all fields are those of `Scoring` and of the recipe."""

    name: str
    folder: Path
    batch_size: int
    tokens: int
    max_new_tokens: int


def main() -> None:
    """Print a line for each stage of scoring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--batch-size", type=int, help="Instead of evaluation.batch_size.")
    arguments = parser.parse_args()
    session = Session(Environment.read())
    family, store = session.family(arguments.model), session.store
    training = Training.newest(store, family, arguments.dataset)
    request = plan_request(store, training, session.prices, epochs=1)
    if request.scoring and arguments.batch_size:
        request = replace(
            request, scoring=replace(request.scoring, batch_size=arguments.batch_size)
        )
    made = plan(request).scoring
    assert made
    assert request.scoring
    weights, _, _ = fetch(store, training.base_model)
    print(f"planned: {memory_size(made.needed_bytes)}")
    for part in made.memory:
        print(f"  {part.name:<16} {memory_size(part.size_bytes):>9}  {part.source}")
    peaks = []
    for name in _STAGES:
        stage = Stage(
            name,
            weights,
            made.batch_size,
            family.recipe.max_length,
            request.scoring.max_new_tokens,
        )
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks.append(pool.apply(_peak, (stage,)))
        print(f"{name:<10} {memory_size(peaks[-1]):>9}")
    print(f"planned / measured: {made.needed_bytes / max(peaks):.2f}")


def _peak(stage: Stage) -> int:
    import torch

    from dolly_assets.generation.model import load

    model, tokenizer = load(stage.folder)
    with torch.no_grad():
        _STAGES[stage.name](stage, model, tokenizer)
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _load(_stage: Stage, _model: object, _tokenizer: object) -> None:
    pass


def _answers(stage: Stage, model: object, tokenizer: object) -> None:
    from dolly_assets.generation.answer import answers_in_batches

    end = 3
    prompts = [[int(each) for each in ids] for ids in _ids(stage, stage.batch_size)]
    answers_in_batches(
        model,  # pyright: ignore[reportArgumentType]
        tokenizer,  # pyright: ignore[reportArgumentType]
        prompts,
        end_token_ids=[end],
        max_new_tokens=stage.max_new_tokens,
        batch_size=stage.batch_size,
    )


def _losses(stage: Stage, model: object, _tokenizer: object) -> None:
    from dolly_assets.generation.evaluate import held_out_losses

    rows = 2 * stage.batch_size
    table = pa.table(
        {
            "input_ids": [ids.tolist() for ids in _ids(stage, rows)],
            "prompt_length": [1] * rows,
        }
    )
    held_out_losses(model, table, batch_size=stage.batch_size)  # pyright: ignore[reportArgumentType]


def _ids(stage: Stage, rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(10, 500, (rows, stage.tokens))


_STAGES: dict[str, Callable[..., None]] = {"load": _load, "answers": _answers, "losses": _losses}

if __name__ == "__main__":
    main()
