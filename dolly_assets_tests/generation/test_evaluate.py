import inspect
import math

import pyarrow as pa
import pytest

from dolly_assets.core.errors import ConfigurationError, DatasetError
from dolly_assets.generation.evaluate import exact_match, held_out_losses, perplexity
from dolly_assets.tokenization.labels import LABEL_RUNS
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets_tests.generation.examples import PARROTED, held_out


@pytest.fixture(scope="module")
def examples(tokenizer):
    """Very different lengths, of prompts and of responses, so that batches are full of padding."""
    names = [f"name {'very ' * (7 * i % 11)}{i}" for i in range(20)]
    return held_out(tokenizer, names, [f"yes {'no ' * (5 * i % 13)}" for i in range(20)])


def in_turns(examples: pa.Table) -> pa.Table:
    """The examples with two labelled turns each, and a token after the last one."""
    lengths = [len(ids) for ids in examples["input_ids"].to_pylist()]
    runs = [[3, 2, length - 9, 3, 1] for length in lengths]
    return examples.append_column(LABEL_RUNS, pa.array(runs, LABEL_RUNS.type))


def held_out_loss(model, table: pa.Table, *, batch_size: int) -> float:
    return held_out_losses(model, table, batch_size=batch_size).mean


def score(model, tokenizer, table, *, examples=100, max_new_tokens=24, batch_size=8, **batching):
    return exact_match(
        model,
        tokenizer,
        table,
        end_token_ids=[tokenizer.convert_tokens_to_ids(PromptStyle().end_key)],
        examples=examples,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        **batching,
    )


def test_the_loss_does_not_depend_on_the_batches(model, examples) -> None:
    one_by_one = held_out_loss(model, examples, batch_size=1)
    assert held_out_loss(model, examples, batch_size=16) == pytest.approx(one_by_one, rel=1e-6)
    assert held_out_loss(model, examples, batch_size=7) == pytest.approx(one_by_one, rel=1e-6)


@pytest.mark.parametrize("of_turns", [False, True])
def test_the_loss_is_the_mean_over_all_labelled_tokens(model, examples, of_turns) -> None:
    """Against the model's own loss, example by example, weighted by labelled tokens."""
    import torch

    examples = in_turns(examples) if of_turns else examples
    total, count = 0.0, 0
    for example in examples.to_pylist():
        input_ids = torch.tensor([example["input_ids"]])
        labels = input_ids.clone()
        length, prompt = len(example["input_ids"]), example["prompt_length"]
        begin = 0
        for turn, tokens in enumerate(example.get("label_runs") or [prompt, length - prompt]):
            labels[:, begin : begin + tokens * (turn % 2 == 0)] = -100
            begin += tokens
        labelled = int((labels != -100).sum())
        with torch.no_grad():
            total += model(input_ids=input_ids, labels=labels).loss.item() * labelled
        count += labelled
    assert held_out_loss(model, examples, batch_size=4) == pytest.approx(total / count, rel=1e-6)


def test_every_example_has_the_loss_that_it_has_alone(model, examples) -> None:
    table = in_turns(examples)
    together = held_out_losses(model, table, batch_size=8)
    for row in range(table.num_rows):
        alone = held_out_losses(model, table.slice(row, 1), batch_size=1)
        assert together.loss[row] == pytest.approx(alone.loss[0], rel=1e-5)
        assert together.labelled_tokens[row] == alone.labelled_tokens[0] == 5


def test_a_model_is_calibrated_if_it_is_right_as_often_as_it_is_sure(model, examples) -> None:
    """An untrained model is hardly ever sure, and hardly ever right."""
    error = held_out_losses(model, examples, batch_size=8).calibration_error
    assert error is not None
    assert 0 <= error < 0.2


def test_a_batch_has_few_enough_tokens_for_its_logits(model, examples, monkeypatch):
    """The same loss from batches of a few tokens, longest rows alone; no other logits."""
    from dolly_assets.generation import evaluate

    whole = held_out_loss(model, examples, batch_size=16)
    seen = []
    forward = type(model).forward

    def watched(self, *arguments, **options):
        result = forward(self, *arguments, **options)
        seen.append((options["input_ids"].numel(), result.logits.flatten(0, -2).shape[0]))
        return result

    monkeypatch.setattr(evaluate, "BATCH_TOKENS", 64)
    labelled = sum(len(each["input_ids"]) - each["prompt_length"] for each in examples.to_pylist())
    watched.__signature__ = inspect.signature(forward)
    monkeypatch.setattr(type(model), "forward", watched)
    assert held_out_loss(model, examples, batch_size=16) == pytest.approx(whole, rel=1e-6)
    longest = max(len(each["input_ids"]) for each in examples.to_pylist())
    assert max(tokens for tokens, _ in seen) <= max(64, longest)
    assert sum(logits for _, logits in seen) == labelled


def test_a_model_over_several_devices_is_scored_one_example_at_a_time(model, examples, monkeypatch):
    tables = (examples, in_turns(examples))
    expected = [held_out_loss(model, table, batch_size=4) for table in tables]
    monkeypatch.setattr(model, "hf_device_map", {"a": 0, "b": 1}, raising=False)
    found = [held_out_loss(model, table, batch_size=4) for table in tables]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_model_in_training_is_scored_without_dropout_and_stays_in_training_mode(
    model, examples
) -> None:
    expected = held_out_loss(model, examples, batch_size=4)
    model.train()
    try:
        assert held_out_loss(model, examples, batch_size=4) == expected
        assert model.training
    finally:
        model.eval()


def test_an_empty_split_is_an_error(model, tokenizer, examples) -> None:
    for evaluate in (
        lambda table: held_out_loss(model, table, batch_size=4),
        lambda t: score(model, tokenizer, t),
    ):
        with pytest.raises(DatasetError, match="held_out_examples"):
            evaluate(examples.slice(0, 0))


def test_perplexity_is_the_exponential_of_the_loss() -> None:
    assert perplexity(math.log(7)) == pytest.approx(7)
    assert perplexity(1e6) == math.inf


def test_exact_match_tells_right_from_wrong_over_all_and_by_category(parrot, tokenizer) -> None:
    table = held_out(tokenizer, PARROTED, ["Anna", " Ben\n", "somebody else", "Jim"])
    result = score(parrot, tokenizer, table)
    assert result.examples == 4
    assert result.score == 0.5
    assert result.score_by_category == {"long": 0.0, "short": pytest.approx(2 / 3)}
    assert [answer.answer for answer in result.right] == ["Anna", "Ben"]
    assert [(answer.expected, answer.answer) for answer in result.wrong] == [
        ("somebody else", "Clara the second"),
        ("Jim", "Tom"),
    ]


def test_the_last_labelled_turn_of_a_conversation_is_what_is_expected(parrot, tokenizer) -> None:
    table = held_out(tokenizer, PARROTED, ["Anna", "Ben", "somebody else", "Jim"])
    lengths = [len(ids) for ids in table["input_ids"].to_pylist()]
    # The first letters are an earlier turn, and a token follows the end.
    after = [[*ids, 3] for ids in table["input_ids"].to_pylist()]
    prompts = table["prompt_length"].to_pylist()
    runs = [[1, 2, n - 3, end - n, 1] for n, end in zip(prompts, lengths, strict=True)]
    columns = {
        "record": range(4),
        "input_ids": after,
        "prompt_length": prompts,
        LABEL_RUNS.name: pa.array(runs, LABEL_RUNS.type),
        "messages": ["[]"] * 4,
        "category": ["a", "a", "b", ""],
    }
    result = score(parrot, tokenizer, pa.table(columns))
    assert result.score_by_category == {"a": 1.0, "b": 0.0, "uncategorized": 0.0}
    assert [answer.answer for answer in result.right] == ["Anna", "Ben"]
    assert result.right[0].instruction.endswith("Say Anna.\n\n")
    assert [answer.expected.strip() for answer in result.wrong] == ["somebody else", "Jim"]


def test_answers_do_not_depend_on_the_batches(model, tokenizer, examples) -> None:
    one_by_one, batched = (
        score(model, tokenizer, examples, examples=6, max_new_tokens=6, batch_size=size)
        for size in (1, 4)
    )
    assert one_by_one.wrong == batched.wrong
    assert any(answer.answer for answer in batched.wrong)


def test_only_the_first_examples_are_answered(parrot, tokenizer) -> None:
    result = score(parrot, tokenizer, held_out(tokenizer, PARROTED), examples=2)
    assert [answer.instruction for answer in result.right] == ["Say Anna.", "Say Ben."]
    assert result.examples == 2


def test_an_answer_is_bounded_by_max_new_tokens(parrot, tokenizer) -> None:
    result = score(parrot, tokenizer, held_out(tokenizer, PARROTED[2:3]), max_new_tokens=3)
    assert result.score == 0
    assert "Clara the second".startswith(result.wrong[0].answer)


def test_continuous_batches_give_the_answers_of_static_ones(model, tokenizer, examples) -> None:
    """Architectures without paged attention, such as GPT-NeoX, are refused."""
    attention = model.config._attn_implementation
    if model.config.model_type == "gpt_neox":
        with pytest.raises(ConfigurationError, match=r"^GPTNeoXForCausalLM cannot answer with"):
            score(model, tokenizer, examples, batching="continuous")
        return
    static = score(model, tokenizer, examples, batch_size=1).answers
    assert score(model, tokenizer, examples, batch_size=4, batching="continuous").answers == static
    assert model.config._attn_implementation == attention
