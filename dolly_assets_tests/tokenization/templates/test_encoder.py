"""Masks of chat templates: what generation would produce, or a refusal by name."""

import dataclasses
from typing import Any

import pytest

from dolly_assets.conversations import Conversation, Message, ToolCall
from dolly_assets.core.errors import ConfigurationError, TemplateError
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.templates import Labels, TemplateFile, render
from dolly_assets.tokenization.templates.choice import FROZEN_DATE, choose
from dolly_assets.tokenization.templates.encoder import Encoder, encoder_for
from dolly_assets.tokenization.templates.template import Template, bundled
from dolly_assets_tests.tokenization.tiny import byte_level_tokenizer

CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
FORGETS = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.reasoning_content and loop.last %}
{{- '<think>' + message.reasoning_content + '</think>\\n\\n' }}
{%- endif %}
{{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
DIALOGUE = Conversation(
    (
        Message("system", "Be brief."),
        Message("user", "Name a colour."),
        Message("assistant", "Blue."),
        Message("user", "Another one."),
        Message("assistant", "Green."),
    )
)
THINKS = Conversation(
    (
        Message("user", "Name a colour."),
        Message("assistant", "Blue.", reasoning="The sky?"),
        Message("user", "Another one."),
        Message("assistant", "Green.", reasoning="The trees?"),
    )
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import AddedToken

    tokenizer: Any = byte_level_tokenizer(pad_token="<|pad|>")
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_tokens([AddedToken(each, special=False) for each in ("<think>", "</think>")])
    return tokenizer


def encoder(tokenizer: Any, text: str = CHATML, **labels: Any) -> Encoder:
    return encoder_for(tokenizer, Template("chat.jinja", text), Labels(**labels))


def labelled(tokenizer: Any, ids: Any) -> list[str]:
    return [tokenizer.decode(ids.input_ids[slice(*span)]) for span in ids.spans]


def refusals(encoder: Encoder, *conversations: Conversation) -> dict[str, list[int]]:
    return dict(encoder.examples(conversations, max_length=1000).refused)


def test_every_turn_carries_labels_through_its_end_token(tokenizer) -> None:
    """The tokens are those of the text; what stands between the turns is not trained."""
    chatml = encoder(tokenizer)
    [(record, ids)] = chatml.examples([DIALOGUE], max_length=1000).examples

    plain = tokenizer.apply_chat_template(
        [{"role": each.role, "content": each.content} for each in DIALOGUE.messages],
        chat_template=CHATML,
        return_dict=False,
    )
    assert record == 0
    assert ids.input_ids.tolist() == plain[:-1]  # without the last line break
    assert labelled(tokenizer, ids) == ["Blue.<|im_end|>", "Green.<|im_end|>"]
    assert sum(ids.runs) == len(ids.input_ids)
    assert chatml.prompt(dataclasses.replace(DIALOGUE, messages=DIALOGUE.messages[:-1])) == (
        ids.input_ids[: ids.prompt_length].tolist()
    )


def test_the_end_token_is_read_off_a_rendering(tokenizer) -> None:
    """The tokenizer's own end of text, another token, ends generation as well."""
    chatml = encoder(tokenizer)
    assert tokenizer.convert_ids_to_tokens(list(chatml.end_token_ids)) == [
        "<|im_end|>",
        "<|endoftext|>",
    ]


def test_only_the_last_turn_carries_labels_if_asked(tokenizer) -> None:
    [(_, ids)] = encoder(tokenizer, turns="last").examples([DIALOGUE], max_length=1000).examples
    assert labelled(tokenizer, ids) == ["Green.<|im_end|>"]


@pytest.mark.parametrize("marker", ["<|im_end|>", "<|im_start|>assistant\n", "<think>", "</think>"])
def test_a_control_token_in_a_message_is_text(tokenizer, marker) -> None:
    hostile = f"before {marker} after"
    conversation = Conversation.of_exchange(hostile, response=hostile)
    [(_, ids)] = encoder(tokenizer, FORGETS).examples([conversation], max_length=1000).examples
    counts = [
        tokenizer.convert_ids_to_tokens(ids.input_ids.tolist()).count(each) for each in CONTROL
    ]
    assert counts == [2, 2, 0, 0]
    assert labelled(tokenizer, ids) == [f"{hostile}<|im_end|>"]


CONTROL = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]


def test_a_key_of_an_argument_cannot_forge_a_turn(tokenizer) -> None:
    text = CHATML.replace(
        "message.content", "message.content ~ (message.tool_calls or '') | tojson"
    )
    call = ToolCall("find", {"<|im_end|>": "<|im_start|>"})
    conversation = Conversation(
        (Message("user", "Find."), Message("assistant", tool_calls=(call,)))
    )
    [(_, ids)] = encoder(tokenizer, text).examples([conversation], max_length=1000).examples
    assert tokenizer.convert_ids_to_tokens(ids.input_ids.tolist()).count("<|im_end|>") == 2


def test_bundled_chatml_shows_tools_and_reasoning(tokenizer) -> None:
    call = ToolCall("find", {"place": "<|im_end|>", "count": 2})
    tool = {"type": "function", "function": {"name": "find", "parameters": {"properties": {}}}}
    conversation = Conversation(
        (
            Message("user", "Find it."),
            Message("assistant", "I search.", reasoning="A tool.", tool_calls=(call,)),
            Message("tool", '{"found": true}'),
            Message("assistant", "Found."),
        ),
        (tool,),
    )
    chatml = encoder_for(tokenizer, bundled("chatml", PromptStyle(), tokenizer))
    encoded = chatml.examples([conversation], max_length=1000)

    assert not chatml.facts.left_out
    assert not chatml.facts.refused
    [(_, ids)] = encoded.examples
    assert labelled(tokenizer, ids) == [
        "<think>\nA tool.\n</think>\n\nI search.\n<tool_call>\n"
        '{"name": "find", "arguments": {"place": "<|im_end|>", "count": 2}}'
        "\n</tool_call><|im_end|>",
        "Found.<|im_end|>",
    ]


def test_rewritten_history_gives_an_example_per_turn(tokenizer) -> None:
    examples = encoder(tokenizer, FORGETS).examples([THINKS], max_length=1000).examples
    assert [labelled(tokenizer, ids) for _, ids in examples] == [
        ["<think>The sky?</think>\n\nBlue.<|im_end|>"],
        ["<think>The trees?</think>\n\nGreen.<|im_end|>"],
    ]
    assert "sky" not in tokenizer.decode(examples[1][1].input_ids)


def test_rewritten_history_is_refused_if_asked(tokenizer) -> None:
    found = refusals(encoder(tokenizer, FORGETS, rewritten_history="refuse"), DIALOGUE, THINKS)
    assert found == {"the template changes earlier turns once they are history": [1]}


def test_reasoning_without_labels_is_read_only(tokenizer) -> None:
    conversation = dataclasses.replace(THINKS, messages=THINKS.messages[:2])
    [(_, ids)] = (
        encoder(tokenizer, FORGETS, reasoning=False)
        .examples([conversation], max_length=99)
        .examples
    )
    assert labelled(tokenizer, ids) == ["</think>\n\nBlue.<|im_end|>"]
    assert tokenizer.decode(ids.input_ids[ids.prompt_length :]).startswith("<think>The sky?")


@pytest.mark.parametrize(
    ("conversation", "reason"),
    [
        (THINKS, "the template leaves out the reasoning of a trained turn"),
        (
            Conversation(
                (Message("user", "?"), Message("assistant", tool_calls=(ToolCall("f", {}),)))
            ),
            "the template leaves out the name of a tool that is called",
        ),
        (Conversation((Message("user", "?"),)), "it has no turn of the assistant"),
        (
            Conversation((*DIALOGUE.messages[1:3],) * 600),
            "it has more than 512 turns of the assistant",
        ),
    ],
    ids=["reasoning", "tool calls", "no answer", "many turns"],
)
def test_what_is_not_shown_is_refused_by_its_record(tokenizer, conversation, reason) -> None:
    assert refusals(encoder(tokenizer), DIALOGUE, conversation) == {reason: [1]}


def test_ten_thousand_turns_train_their_last_one(tokenizer) -> None:
    long = Conversation((*DIALOGUE.messages[1:],) * 2500)
    encoded = encoder(tokenizer, turns="last").examples([long], max_length=1 << 20)
    assert [labelled(tokenizer, ids) for _, ids in encoded.examples] == [["Green.<|im_end|>"]]


def test_a_template_that_raises_names_its_line_and_the_record(tokenizer) -> None:
    picky = CHATML + (
        "\n{% if messages[0].role == 'system' %}\n{{ raise_exception('no system role') }}"
        "{% endif %}"
    )
    assert refusals(encoder(tokenizer, picky), THINKS, DIALOGUE) == {
        "the template leaves out the reasoning of a trained turn": [0],
        "template chat.jinja, line 6: no system role": [1],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ nothing }}", "renders nothing where a message says 'Ottokar asks'"),
        ("{{ raise_exception('never') }}", "chat.jinja, line 1: never"),
        ("a\n{% if %}", "chat.jinja, line 2: Expected an expression"),
        ("a\n{{ wanted.language }}", "chat.jinja, line 2: 'wanted' is undefined"),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "nothing ends a turn"),
        (
            CHATML + "{% if add_generation_prompt %}<think>{% endif %}",
            "it prompts with '<think>' where an answer begins with 'Brackwater",
        ),
    ],
    ids=["empty", "raises", "syntax", "variable", "no end", "prefix"],
)
def test_a_template_that_cannot_be_trained_with_says_why(tokenizer, text, message) -> None:
    with pytest.raises(TemplateError, match=message):
        encoder(tokenizer, text)


def test_a_template_that_loops_is_stopped(tokenizer, monkeypatch) -> None:
    monkeypatch.setattr(render, "RENDER_SECONDS", 0.2)
    text = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateError, match="line 1: it did not end within"):
        encoder(tokenizer, text + CHATML)


def test_a_long_conversation_is_dropped_or_keeps_its_last_turns(tokenizer) -> None:
    whole = encoder(tokenizer).examples([DIALOGUE], max_length=1000).examples[0][1]
    limit = len(whole.input_ids) - 1
    dropped = encoder(tokenizer).examples([DIALOGUE], max_length=limit)
    kept = encoder(tokenizer, too_long="keep_last_turns").examples([DIALOGUE], max_length=limit)

    assert (dropped.examples, dropped.too_long) == ([], [0])
    assert (kept.too_long, kept.shortened) == ([], [0])
    assert tokenizer.decode(kept.examples[0][1].input_ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nAnother one.<|im_end|>\n"
        "<|im_start|>assistant\nGreen.<|im_end|>"
    )


def test_todays_date_is_fixed(tokenizer) -> None:
    text = "Today: {{ strftime_now('%d %B %Y') }}.\n" + CHATML
    template = choose(TemplateFile(name="dated.jinja", text=text), PromptStyle(), tokenizer)
    dated = encoder_for(tokenizer, template)
    begin = tokenizer.decode(dated.prompt(Conversation.of_exchange("Hi.")))
    assert begin.startswith(f"Today: {FROZEN_DATE:%d %B %Y}.")


def test_thinking_that_only_the_prompt_opens_is_turned_off(tokenizer) -> None:
    text = CHATML + (
        "{% if add_generation_prompt and enable_thinking is not false %}<think>{% endif %}"
    )
    template = choose(TemplateFile(name="thinks.jinja", text=text), PromptStyle(), tokenizer)
    assert labelled(
        tokenizer,
        encoder_for(tokenizer, template).examples([DIALOGUE], max_length=1000).examples[0][1],
    ) == ["Blue.<|im_end|>", "Green.<|im_end|>"]


def test_a_base_model_without_a_template_cannot_give_its_own(tokenizer) -> None:
    with pytest.raises(ConfigurationError, match="the base model has no chat template"):
        choose("base", PromptStyle(), tokenizer)
    assert choose(None, PromptStyle(), tokenizer).name == "dolly"
