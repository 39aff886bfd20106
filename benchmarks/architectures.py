"""Compare every causal language model of transformers, trained as here, with one example at a time.

    python benchmarks/architectures.py [--only NAME ...] [--json FILE] [--markdown FILE] [--jobs N]

For each architecture of transformers' AutoModelForCausalLM a tiny model is built whose windows,
chunks, selected keys and original contexts are shorter than the examples. Loss and gradient of a
few examples, in the layout that a training would choose, are compared with plain transformers
computing one example at a time; the reference shares no code with the training. Variants add rotary
embeddings whose factors follow the length of the sequence.

Exit code 1 if an architecture fails with a foreign exception or deviates by more than the
tolerances.
"""

import argparse
import json
import multiprocessing
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dolly_assets.core.errors import DollyError
from dolly_assets.core.markdown import markdown_table
from dolly_assets.training.base_model.check import check
from dolly_assets.training.flops import ModelFlops
from dolly_assets.training.packing.attention import PackedAttention
from dolly_assets.training.packing.batches import PackedRow
from dolly_assets.training.packing.layout import Layout, LayoutCollator
from dolly_assets.training.packing.loss import LabelLoss
from dolly_assets.training.packing.miniature import Reach, miniature, randomize
from dolly_assets.training.packing.self_check import choose_layout

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-6, 1e-5  # relative
MULTIPLE = 8  # of the tokens of a packed sequence, as it is 64 on a GPU
LIMIT = 16  # of windows and their kin, in tokens
POSITIONS = 96  # more than an example has tokens, and fewer than all of them
ROWS = ((5, 40), (9, 25, 33))  # tokens of the examples in each packed row
ROTARY = {
    "dynamic": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0},
    "longrope": {
        "rope_type": "longrope",
        "factor": 4.0,
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
        "original_max_position_embeddings": LIMIT,
    },
}
# What the default configurations of these leave out, and need.
COMPLETED: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0}
            for kind in ("full_attention", "sliding_attention")
        }
    },
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "qwen4_exp": {
        "text_config": {
            "indexer_n_heads": 4,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 256,
            "indexer_budget": 2048,
            "indexer_compress_ratio": 4,
        },
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 256,
        "indexer_budget": 2048,
        "indexer_compress_ratio": 4,
    },
    "xmod": {"default_language": "en_XX"},
    "reformer": {
        "axial_pos_embds_dim": [32, 32],
        "axial_pos_shape": [8, 16],
        "is_decoder": True,
    },
}
PACKED, PACKED_OWN = "packed", "packed, own mask"
PADDED, REFUSED = "padded", "refused"
CRASH, WRONG, NO_MODEL = "crash", "silently wrong", "no tiny model"
OUTCOMES = (PACKED, PACKED_OWN, PADDED, REFUSED, CRASH, WRONG, NO_MODEL)
FAILURES = (CRASH, WRONG, NO_MODEL)
VARIANTS = (
    ("llama", "dynamic"),
    ("phi3", "longrope"),
)

PAGE = """\
# Architectures

Every causal language model of transformers {version}, and how the examples of a training are laid
out for it. Each row is a tiny model whose windows, chunks, selected keys and original contexts are
shorter than the examples: loss and gradient of a few examples in float32, computed as a training
computes them, are within 1e-6 and 1e-5 of plain transformers with one example at a time. Where a
layout is not exact, the next one is chosen: packed with our attention, packed with a mask of the
model's own, padded. `+dynamic` and `+longrope` are rotary embeddings whose factors follow the
longest example; with `max_length` within the original context they are exact, too.

Of {count}: {counts}.
`recipe.packing: required` refuses all but the packed ones. A model that is refused for several
examples at once trains with `packing: false` and `micro_batch_size: 1`.

This page is generated: `python benchmarks/architectures.py --markdown docs/architectures.md`.

{table}
"""


@dataclass(frozen=True)
class Outcome:
    """What became of one architecture."""

    name: str
    outcome: str
    detail: str = ""
    attention: str = ""
    loss: float | None = None  # relative difference
    gradient: float | None = None
    seconds: float = 0.0


def names() -> list[str]:
    """All model types that AutoModelForCausalLM knows, and the variants."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(
        [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *(f"{name}+{rotary}" for name, rotary in VARIANTS)]
    )


def tiny_model(name: str) -> "PreTrainedModel":
    """Return a model of an architecture or of a variant, such as `llama+dynamic`."""
    from transformers import AutoConfig

    name, _, rotary = name.partition("+")
    config = AutoConfig.for_model(name, **COMPLETED.get(name, {}))
    if getattr(config, "is_decoder", None) is False:
        config.is_decoder = True  # the encoders among them see later tokens otherwise
    reach = Reach(below=LIMIT, between=POSITIONS)
    try:
        model = _built(miniature(config, reach), rotary)
    except Exception:  # noqa: BLE001 each architecture fails in its own way
        model = _built(miniature(config, reach, keep_depth=True), rotary)
    randomize(model)
    return model.train()


def _built(config: "PretrainedConfig", rotary: str) -> "PreTrainedModel":
    import torch
    from transformers import AutoModelForCausalLM

    if rotary:
        config.rope_parameters = ROTARY[rotary]
        config.max_position_embeddings = LIMIT if rotary == "dynamic" else 4 * LIMIT
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def examples(vocabulary: int) -> list[PackedRow]:
    """Packed rows of random tokens; the first half of each example is the prompt's."""
    generator = np.random.default_rng(0)
    return [
        PackedRow.with_prompts(
            [generator.integers(vocabulary, size=size, dtype=np.int32) for size in lengths],
            [size // 2 for size in lengths],
        )
        for lengths in ROWS
    ]


def one_by_one(model: "PreTrainedModel", rows: Sequence[PackedRow]) -> tuple[float, "torch.Tensor"]:
    """Loss and gradient by plain transformers, one example at a time."""
    import torch

    model.zero_grad()
    total = 0.0
    for row in rows:
        for ids, (prompt, _) in zip(row.examples, row.label_runs, strict=True):
            tokens = torch.from_numpy(ids.astype(np.int64))
            logits = model(input_ids=tokens[None], use_cache=False).logits[0].float()
            loss = torch.nn.functional.cross_entropy(
                logits[prompt - 1 : -1], tokens[prompt:], reduction="sum"
            )
            loss.backward()
            total += loss.item()
    return total, gradient(model)


def gradient(model: "PreTrainedModel") -> "torch.Tensor":
    """Return the gradient of all weights as one vector."""
    import torch

    parts = [
        (weight.grad if weight.grad is not None else torch.zeros_like(weight)).flatten()
        for weight in model.parameters()
    ]
    return torch.cat(parts).double()


def examine(name: str) -> Outcome:
    """Train an architecture as the project does, and compare."""
    try:
        model = tiny_model(name)
        rows = examples(model.config.get_text_config().vocab_size)
    except Exception as error:  # noqa: BLE001 it is what is looked for
        return _without_model(name, _line(error))
    try:
        expected = one_by_one(model, rows)
    except Exception as error:  # noqa: BLE001 it is what is looked for
        expected = _line(error)
    try:
        layout, found = as_trained(model, rows)
    except DollyError as error:
        return Outcome(name, REFUSED, str(error))
    except Exception as error:  # noqa: BLE001 it is what is looked for
        return Outcome(name, CRASH, _line(error) + " " + traceback.format_exc()[-600:])
    outcome = PADDED
    if layout.packed:
        outcome = PACKED_OWN if layout.is_own_attention else PACKED
    if isinstance(expected, str):
        return Outcome(name, f"{WRONG}: {outcome}", f"plain transformers: {expected}")
    loss, off = _difference(expected, found)
    if not (loss <= LOSS_TOLERANCE and off <= GRADIENT_TOLERANCE):
        outcome = f"{WRONG}: {outcome}"
    return Outcome(name, outcome, "; ".join(layout.refused), layout.attention, loss, off)


def _without_model(name: str, reason: str) -> Outcome:
    """Return the outcome where no tiny model could be built."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(AutoConfig.for_model(name.partition("+")[0]))
    except Exception as error:  # noqa: BLE001 it is what is looked for
        # `prepare` refuses what transformers cannot build.
        return Outcome(name, REFUSED, f"transformers builds no model: {_line(error)}")
    return Outcome(name, NO_MODEL, reason)


def as_trained(
    model: "PreTrainedModel", rows: list[PackedRow]
) -> tuple[Layout, tuple[float, "torch.Tensor"]]:
    """Layout, loss and gradient as a training has them.

    Raises:
        DollyError: The model is refused.
    """
    check(model, type(model).__name__)
    packed = PackedAttention()
    packed.register()
    loss = LabelLoss(model, packed)
    ModelFlops.of(model)
    collator = LayoutCollator(0, packed=True, multiple=MULTIPLE)
    reach = Reach(example=max(map(max, ROWS)), sequence=sum(map(sum, ROWS)))
    collator.layout = choose_layout(model, loss, packing=True, reach=reach)
    model.zero_grad()
    value = loss.sum(model, collator(rows))
    value.backward()
    return collator.layout, (value.item(), gradient(model))


def _difference(
    expected: tuple[float, "torch.Tensor"], found: tuple[float, "torch.Tensor"]
) -> tuple[float, float]:
    loss = abs(found[0] - expected[0]) / abs(expected[0])
    return loss, ((found[1] - expected[1]).norm() / expected[1].norm()).item()


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]


def isolated(name: str, timeout: float) -> Outcome:
    """`examine` in a process of its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        import logging
        import warnings

        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        sender.send(examine(name))

    began = time.monotonic()
    process = context.Process(target=work, daemon=True)
    process.start()
    sender.close()
    found = receiver.poll(timeout) and _received(receiver)
    if not found:
        process.kill()
    process.join()
    if not found:
        found = Outcome(name, CRASH, f"no answer, exit code {process.exitcode}")
    return replace(found, seconds=round(time.monotonic() - began, 2))


def _received(receiver: Any) -> Outcome | None:
    try:
        return receiver.recv()
    except EOFError:
        return None


def run(chosen: Sequence[str], *, jobs: int, timeout: float) -> Iterator[Outcome]:
    """All outcomes, in order."""
    import torch
    import transformers.models.auto.modeling_auto  # noqa: F401 once, for all processes
    from transformers import AutoModelForCausalLM  # noqa: F401

    torch.set_num_threads(1)
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        yield from pool.map(lambda name: isolated(name, timeout), chosen)


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the page of the documentation: the same for the same outcomes, whatever they took."""
    import transformers

    counts = Counter(outcome.outcome for outcome in outcomes)
    table = markdown_table(
        ("architecture", "examples are", "attention", "why not packed with our attention"),
        [
            (each.name, each.outcome, each.attention or "–", _cause(each) or "–")
            for each in outcomes
        ],
    )
    return PAGE.format(
        version=transformers.__version__,
        count=len(outcomes),
        counts="; ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts[name]),
        table=table,
    )


def _cause(outcome: Outcome) -> str:
    """Shorten reasons for a table: sizes of differences vary with the machine."""
    text = outcome.detail.split("; ")[0]
    text = re.sub(r": the loss by [^;]*?%, the gradient by [^;]*?%", "", text)
    return text.replace("in a small copy, examples differ from each of them alone", "not exact")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=120)
    options = parser.parse_args()
    outcomes = []
    for outcome in run(options.only or names(), jobs=options.jobs, timeout=options.timeout):
        outcomes.append(outcome)
        print(
            f"{outcome.name:28} {outcome.outcome:22} {outcome.loss or 0:8.1e} "
            f"{outcome.gradient or 0:8.1e} {outcome.seconds:5.1f} s "
            f"{outcome.detail[: 3000 if options.only else 150]}",
            flush=True,
        )
    print(dict(Counter(outcome.outcome for outcome in outcomes)))
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(outcomes))
    sys.exit(any(each.outcome.startswith(FAILURES) for each in outcomes))


if __name__ == "__main__":
    main()
