"""Adapters beside one base model answer as each does merged, whoever asks beside them."""

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from dolly_assets.core.errors import BaseModelError
from dolly_assets.generation.answer import answer
from dolly_assets.generation.model import load
from dolly_assets.serving.engine import Generation, Piece
from dolly_assets.serving.weights import LoadedBase, load_base
from dolly_assets.training.lora import LoraSettings, add_adapter
from dolly_assets_tests.generation.conftest import STYLE, tiny_model
from dolly_assets_tests.tokenization.tiny import byte_level_tokenizer, with_style

TOKENS = 12
PROMPTS = ([5, 6, 7, 8], [9, 10], [40, 41, 42, 43, 44, 45, 46])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model."""
    tokenizer = with_style(byte_level_tokenizer(), STYLE)
    folder = tmp_path_factory.mktemp("weights")
    tiny_model("llama", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters with an effect; the second has rows of tokens, too."""
    import torch

    found = {}
    for seed, new_tokens in ((1, ()), (2, (7, 9))):
        model, _ = load(folder)
        adapted = add_adapter(model, LoraSettings(rank=4, alpha=16), seed, new_tokens)
        for weight in adapted.parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.3)
        found[f"adapter{seed}"] = tmp_path_factory.mktemp("adapter")
        adapted.save_pretrained(found[f"adapter{seed}"])
    return found


@pytest.fixture
def base(folder: Path) -> Iterator[LoadedBase]:
    base = load_base(folder, "dolly")
    base.start(most_rows=8)
    yield base
    base.engine.stop("the test has ended")


def asked(base: LoadedBase, names: list[str | None]) -> list[str]:
    """Ask each name each prompt, all at once."""
    texts: queue.Queue[tuple[int, Piece]] = queue.Queue()
    wanted = [(name, prompt) for name in names for prompt in PROMPTS]
    for at, (name, prompt) in enumerate(wanted):
        base.engine.submit(
            Generation(
                prompt=prompt,
                end_token_ids=base.stop_token_ids,
                max_new_tokens=TOKENS,
                sampling=None,
                stops=(),
                tokenizer=base.tokenizer,
                adapter=name,
                on_piece=lambda piece, at=at: texts.put((at, piece)),
            )
        )
    found, remaining = [""] * len(wanted), len(wanted)
    while remaining:
        at, piece = texts.get(timeout=60)
        assert piece.finish != "error", piece.problem
        found[at] += piece.text
        remaining -= piece.finish is not None
    return found


def merged(folder: Path, adapter: Path | None) -> list[str]:
    """What the merged model answers to each prompt alone."""
    model, tokenizer = load(folder, adapter=adapter)
    ends = load_base(folder, "dolly").encoder.end_token_ids
    return [
        answer(model, tokenizer, [prompt], end_token_ids=ends, max_new_tokens=TOKENS)[0]
        for prompt in PROMPTS
    ]


def test_each_answers_as_if_it_were_alone_and_merged(
    folder: Path, adapters: dict[str, Path], base: LoadedBase
) -> None:
    for name, place in adapters.items():
        base.add_adapter(name, place)
    names = ["adapter1", None, "adapter2"]
    expected = [merged(folder, adapters[name] if name else None) for name in names]
    assert len({*map(tuple, expected)}) == len(names)
    assert asked(base, names) == [text for each in expected for text in each]


def test_an_adapter_is_removed_and_added_while_the_others_stay(
    adapters: dict[str, Path], base: LoadedBase
) -> None:
    base.add_adapter("first", adapters["adapter1"])
    before = asked(base, ["first", None])
    base.add_adapter("second", adapters["adapter2"])
    base.remove_adapter("second")
    assert base.adapters == {"first"}
    assert asked(base, ["first", None]) == before


def test_what_is_no_adapter_of_the_model_is_refused(base: LoadedBase, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="does not load as an adapter"):
        base.add_adapter("none", tmp_path)
