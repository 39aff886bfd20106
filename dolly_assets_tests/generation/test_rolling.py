"""Rows that join and leave a batch get the tokens that they get alone."""

from collections.abc import Iterator, Sequence

import pytest

from dolly_assets.generation.rolling import RollingBatch

TOKENS = 20


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    import torch

    with torch.inference_mode():
        yield


def alone(model, prompt: Sequence[int]) -> list[int]:
    """What transformers generates greedily."""
    import torch

    ids = torch.tensor([prompt])
    generated = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=TOKENS,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return generated[0, len(prompt) :].tolist()


def prompts(count: int) -> list[list[int]]:
    import torch

    random = torch.Generator().manual_seed(0)
    lengths = (5, 30, 12, 44, 7)[:count]
    return [torch.randint(3, 200, (length,), generator=random).tolist() for length in lengths]


def test_who_joins_late_and_leaves_early_changes_nobodys_tokens(model) -> None:
    asked = prompts(5)
    batch, rows, found = RollingBatch(model), list[int](), {at: list[int]() for at in range(5)}
    joins_at = {0: [0], 3: [1, 2], 11: [3], 12: [4]}
    for step in range(TOKENS + 13):
        if rows:
            likeliest = batch.step([found[row][-1] for row in rows]).argmax(-1).tolist()
            for row, token in zip(rows, likeliest, strict=True):
                found[row].append(token)
        if joining := joins_at.get(step, []):
            logits = batch.join([asked[row] for row in joining])
            rows += joining
            for row, token in zip(joining, logits.argmax(-1).tolist(), strict=True):
                found[row].append(token)
        kept = [at for at, row in enumerate(rows) if len(found[row]) < TOKENS]
        batch.keep(kept)
        rows = [rows[at] for at in kept]
        assert batch.rows == len(rows)
    assert not rows
    for at, prompt in enumerate(asked):
        assert found[at] == alone(model, prompt), f"prompt {at}"


def test_columns_that_nobody_needs_are_freed(model) -> None:
    batch = RollingBatch(model)
    batch.join(prompts(2))
    assert (batch.rows, batch.width) == (2, 30)
    wide = batch.cache_bytes
    batch.keep([0])
    assert (batch.rows, batch.width) == (1, 5)
    assert batch.cache_bytes == wide / 2 / 6
    batch.keep([])
    assert (batch.rows, batch.width, batch.cache_bytes) == (0, 0, 0)


def test_a_model_with_a_state_has_one_row_at_a_time() -> None:
    import torch
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    shape = MambaConfig(
        vocab_size=200,
        hidden_size=16,
        num_hidden_layers=2,
        initializer_range=0.5,
        use_mambapy=False,
    )
    mamba = MambaForCausalLM(shape).eval()
    batch = RollingBatch(mamba)
    assert batch.has_one_row
    for prompt in prompts(2):
        found = batch.join([prompt]).argmax(-1).tolist()
        while len(found) < TOKENS:
            found += batch.step(found[-1:]).argmax(-1).tolist()
        assert found == alone(mamba, prompt)
        batch.keep([])
