import pytest
from pydantic import ValidationError

from dolly_assets.generation.prompt import DEFAULT_PROMPTS, Prompt
from dolly_assets.generation.sample import sample_responses
from dolly_assets.generation.sampling import NoisyLogits, Sampling
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.templates.encoder import encoder_for
from dolly_assets.tokenization.templates.template import bundled
from dolly_assets_tests.generation.examples import PARROTED

PROMPTS = [
    Prompt(instruction="Tell me a story."),
    Prompt(instruction="And you?", context="I am cold."),
]


def sample(
    model, tokenizer, prompts, *, seed=1, temperature=1.0, top_p=0.95, max_new_tokens=12, **batch
):
    return sample_responses(
        model,
        tokenizer,
        encoder_for(tokenizer, bundled("dolly", PromptStyle(), tokenizer)),
        prompts,
        seed=seed,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        **batch,
    )


def test_the_same_seed_gives_the_same_answers_and_another_seed_others(model, tokenizer) -> None:
    assert sample(model, tokenizer, PROMPTS) == sample(model, tokenizer, PROMPTS)
    assert sample(model, tokenizer, PROMPTS, seed=2) != sample(model, tokenizer, PROMPTS)


def test_an_answer_does_not_depend_on_the_other_prompts(model, tokenizer) -> None:
    first, second = sample(model, tokenizer, PROMPTS)
    assert sample(model, tokenizer, PROMPTS[::-1]) == [second, first]
    assert sample(model, tokenizer, PROMPTS[1:]) == [second]


def test_sampling_leaves_the_random_state_as_it_was(model, tokenizer) -> None:
    import torch

    before = torch.random.get_rng_state()
    sample(model, tokenizer, PROMPTS)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_context_reaches_the_model(model, tokenizer) -> None:
    without_context = [Prompt(instruction=PROMPTS[1].instruction)]
    assert sample(model, tokenizer, without_context, temperature=0) != sample(
        model, tokenizer, PROMPTS[1:], temperature=0
    )


def test_at_temperature_zero_the_seed_does_not_matter(model, tokenizer) -> None:
    greedy = [sample(model, tokenizer, PROMPTS, temperature=0, seed=seed) for seed in (1, 2)]
    assert greedy[0] == greedy[1]


def test_an_answer_ends_at_the_end_key_and_does_not_show_it(parrot, tokenizer) -> None:
    prompts = [Prompt(instruction=f"Say {name}.") for name in PARROTED]
    assert sample(parrot, tokenizer, prompts, temperature=0, max_new_tokens=100) == list(PARROTED)


def test_an_answer_ends_at_the_tokenizers_own_end_too_if_it_has_one(parrot, tokenizer) -> None:
    """A base model knows no end key yet.

    Here a letter of the answer plays the tokenizer's end of sequence.
    """
    import copy

    prompts = [Prompt(instruction="Say Clara the second.")]
    letter_ends, nothing_ends = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)
    letter_ends.eos_token_id = tokenizer.convert_tokens_to_ids("a")
    nothing_ends.eos_token = None

    assert sample(parrot, nothing_ends, prompts, temperature=0, max_new_tokens=100) == [
        "Clara the second"
    ]
    assert len(sample(parrot, letter_ends, prompts, temperature=0, max_new_tokens=100)[0]) < len(
        "Clara the second"
    )


def test_the_default_prompts_open_with_the_story_and_hold_one_with_a_context() -> None:
    assert DEFAULT_PROMPTS[0].instruction == (
        "Write a story about a person who cannot see the random forest "
        "because they are caught up in the decision trees."
    )
    assert any(prompt.context for prompt in DEFAULT_PROMPTS)


CHAT = {
    "system": "Be short.",
    "messages": [
        {"role": "user", "content": "What is 6 times 7?"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"name": "times", "arguments": {"of": [6, 7]}}],
        },
        {"role": "tool", "content": "42"},
    ],
    "tools": [{"type": "function", "function": {"name": "times"}}],
}


def test_a_prompt_can_be_a_conversation_and_is_dumped_as_it_was_declared() -> None:
    prompt = Prompt.model_validate(CHAT)
    assert [message.role for message in prompt.conversation.messages] == [
        *("system", "user", "assistant", "tool")
    ]
    assert prompt.conversation.tools == tuple(CHAT["tools"])
    assert prompt.text.startswith("system:\nBe short.\n\nuser:\nWhat is 6 times 7?\n\nassistant:")
    assert 'times({"of": [6, 7]})\n\ntool:\n42' in prompt.text
    assert Prompt.model_validate(prompt.model_dump(mode="json")) == prompt
    assert len({prompt, Prompt.model_validate(CHAT), PROMPTS[0]}) == 2


def test_a_plain_prompt_is_dumped_as_it_always_was() -> None:
    """Settings of samples have a digest, which makes them current or stale."""
    assert PROMPTS[1].model_dump(mode="json") == {
        "instruction": "And you?",
        "context": "I am cold.",
    }


def test_a_conversation_is_continued_and_its_earlier_turns_matter(model, tokenizer) -> None:
    turns = [("user", "Hi."), ("assistant", "Hello."), ("user", "Who are you?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    whole, last = (Prompt.model_validate({"messages": part}) for part in (messages, messages[2:]))
    first, second = sample(model, tokenizer, [whole, last], temperature=0)
    assert first != second
    assert sample(model, tokenizer, [Prompt(instruction="Who are you?")], temperature=0) == [second]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"instruction": ""}, "either an instruction or messages: found neither"),
        ({**CHAT, "instruction": "Hi"}, "either an instruction or messages: found both"),
        ({"messages": CHAT["messages"], "context": "x"}, "put it into a message's content"),
        ({"messages": CHAT["messages"][:2]}, "the last message of a prompt must be the user's"),
        ({"messages": [{"role": "human", "content": "Hi"}]}, "'system', 'user', 'assistant'"),
    ],
)
def test_a_prompt_that_asks_nothing_or_two_things_is_refused(fields: dict, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Prompt.model_validate(fields)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_an_answer_does_not_depend_on_the_size_of_a_batch(model, tokenizer, batch_size) -> None:
    prompts = [Prompt(instruction=f"Say {name}.") for name in PARROTED] + PROMPTS
    one_by_one = [sample(model, tokenizer, [prompt]) for prompt in prompts]
    together = sample(model, tokenizer, prompts, batch_size=batch_size)
    assert [[text] for text in together] == one_by_one


def test_tokens_are_drawn_as_often_as_torch_draws_them() -> None:
    """Over many seeds, against the distribution that transformers' own warpers leave."""
    import torch
    from scipy.stats import chisquare
    from transformers.generation.logits_process import (
        LogitsProcessorList,
        TemperatureLogitsWarper,
        TopPLogitsWarper,
    )

    draws, none = 4000, torch.zeros((1, 0), dtype=torch.long)
    logits = torch.randn(12, generator=torch.Generator().manual_seed(3))
    noisy = NoisyLogits(Sampling(0.8, 0.9, tuple(range(draws))))(none, logits.expand(draws, -1))
    warpers = LogitsProcessorList([TemperatureLogitsWarper(0.8), TopPLogitsWarper(0.9)])
    kept = warpers(none, logits[None])[0]  # pyright: ignore[reportArgumentType]
    expected = kept.softmax(0).double()
    found = torch.bincount(noisy.argmax(1), minlength=len(expected))
    possible = expected > 0
    assert 0 < (~possible).sum() == (found == 0).sum()
    counts = expected[possible] / expected[possible].sum() * draws
    assert chisquare(found[possible], counts).pvalue > 0.01
