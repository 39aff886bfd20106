"""A sample of `benchmarks/architectures.py`: good and bad cases, each trained exactly or refused.

The whole of it, every causal architecture of transformers, is `make architectures`.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import dolly_assets
from dolly_assets.training.context import Context

ROOT = Path(dolly_assets.__file__).parent.parent
SAMPLE = {
    "llama": "packed",
    "deepseek_v3": "packed",  # values of another head size
    "gemma2": "packed, own mask",  # caps its scores
    "gemma4_text": "packed",  # other heads in each layer
    "gpt_neo": "padded",  # its mask has no more tokens than its positions
    "llama4_text": "padded",  # chunks and temperatures by the place in the sequence
    "mamba": "padded",  # no positions, no attention
    "deepseek_v32": "refused",  # selects keys, with ties
    "doge": "refused",
    "phi3+longrope": "refused",
    "llama+dynamic": "refused",
}
FURTHER = {"gemma4_text", "gpt_neo", "llama4_text", "llama+dynamic"}


@pytest.fixture(scope="module")
def architectures() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "architectures", ROOT / "benchmarks" / "architectures.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["architectures"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long) if name in FURTHER else name for name in SAMPLE],
)
def test_an_architecture_trains_exactly_or_is_refused(name: str, architectures: ModuleType) -> None:
    found = architectures.examine(name)
    assert found.outcome == SAMPLE[name], found


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "gpt2",
        "llama",
        "roberta",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("gptj", "opt", "gpt_neo", "gpt_neox")
        ),
    ],
)
def test_the_context_of_learned_positions_ends_where_the_model_does(
    name: str, architectures: ModuleType
) -> None:
    import torch

    model = architectures.tiny_model(name)
    context = Context.of({**model.config.to_dict(), "model_type": name})
    assert context
    for tokens in (context.tokens, context.tokens + 1):
        is_within = tokens == context.tokens
        ids = torch.arange(3, 3 + tokens)[None] % 128
        try:
            model(input_ids=ids, use_cache=False)
        except (IndexError, RuntimeError):
            runs = False
        else:
            runs = True
        assert runs is (is_within or not context.is_fixed)
