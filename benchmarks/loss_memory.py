"""Compare the memory, time and gradients of the loss in chunks with those of all logits at once.

    python benchmarks/loss_memory.py [--vocabulary 151936] [--hidden 512] [--labels 768]

A Llama of one layer computes one step, forward and backward, in float32. Each way to compute its
loss runs in a process of its own; the baseline is the loss of transformers, from the logits of all
tokens. What a way takes is the peak of resident memory above what the process held before the step,
gradients included. Exit code 1 if losses or gradients differ by more than TOLERANCE.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from dolly_assets.core.text import memory_size

TOLERANCE = 1e-5  # relative
PROMPT = 256  # tokens without labels
WAYS = ("transformers", "full", "chunked")


def main() -> int:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--labels", type=int, default=768)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    worst, of_baseline = 0.0, (0, 0.0)
    print("| loss | memory | of transformers' | time | loss apart | gradient apart |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        expected = Path(folder) / "transformers.npy"
        for way in WAYS:
            with context.Pool(1) as pool:
                size, seconds, loss, off = pool.apply(_step, (way, vars(arguments), expected))
            of_baseline = of_baseline if of_baseline[0] else (size, seconds)
            worst = max(worst, loss, off)
            print(
                f"| {way} | {memory_size(size)} | {size / of_baseline[0]:.3f} | "
                f"{seconds / of_baseline[1]:.2f} | {loss:.1e} | {off:.1e} |",
                flush=True,
            )
    return int(worst > TOLERANCE)


def _step(way: str, sizes: dict[str, int], expected: Path) -> tuple[int, float, float, float]:
    """Return bytes and seconds of a step, and its differences from what the first way has left."""
    import torch

    model = _model(sizes)
    _compute(way, model, sizes["vocabulary"], labels=8)  # so that all gradients have their memory
    for weight in model.parameters():
        assert weight.grad is not None
        weight.grad.zero_()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, began = _status("VmRSS"), time.perf_counter()
    loss = _compute(way, model, sizes["vocabulary"], labels=sizes["labels"])
    seconds, size = time.perf_counter() - began, _status("VmHWM") - before
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    found = torch.stack([each.double().norm() for each in gradients])
    sample = torch.cat([each.flatten()[:: max(1, each.numel() // 10_000)] for each in gradients])
    vector = np.concatenate([[loss], found.numpy(), sample.double().numpy()])
    if not expected.exists():
        np.save(expected, vector)
    other = np.load(expected)
    off = np.linalg.norm(vector[1:] - other[1:]) / np.linalg.norm(other[1:])
    return size, seconds, abs(loss - other[0]) / other[0], float(off)


def _model(sizes: dict[str, int]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=sizes["vocabulary"],
        hidden_size=sizes["hidden"],
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=512,
        initializer_range=0.1,
    )
    return AutoModelForCausalLM.from_config(config)


def _compute(way: str, model: Any, vocabulary: int, *, labels: int) -> float:
    """Compute loss and gradients, the former in nats per labelled token."""
    import torch

    from dolly_assets.training.packing.attention import PackedAttention
    from dolly_assets.training.packing.batches import PackedRow, PaddingCollator
    from dolly_assets.training.packing.chunks import ChunkedLoss
    from dolly_assets.training.packing.loss import LabelLoss

    tokens = np.random.default_rng(0).integers(vocabulary, size=PROMPT + labels, dtype=np.int32)
    if way == "transformers":
        ids = torch.from_numpy(tokens.astype(np.int64))[None]
        targets = ids.clone()
        targets[:, :PROMPT] = -100
        value = model(input_ids=ids, labels=targets).loss
    else:
        loss = LabelLoss(model, PackedAttention())
        loss.chunks = ChunkedLoss(model) if way == "chunked" else None
        batch = PaddingCollator(0)([PackedRow.with_prompts([tokens], [PROMPT])])
        value = loss.sum(model, batch) / labels
    value.backward()
    return value.item()


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    sys.exit(main())
