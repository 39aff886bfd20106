import pytest

from dolly_assets.conversations import Conversation, Message
from dolly_assets.tokenization.encode import PromptEncoder
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.templates.encoder import encoder_for
from dolly_assets.tokenization.templates.template import carried
from dolly_assets_tests.tokenization.test_encode import RESPONSES, TOKENIZERS
from dolly_assets_tests.tokenization.tiny import byte_level_tokenizer, with_style

STYLES = [
    PromptStyle(),
    PromptStyle(intro=""),
    PromptStyle(response_key="Answer:", instruction_key="Q:", end_key='"§\\"'),
]
DIALOGUE = Conversation(
    (
        Message("system", "Be brief."),
        Message("user", "Name a colour."),
        Message("assistant", "Blue."),
        Message("user", "Another one.", context="The sky is blue."),
        Message("assistant", "Green."),
    )
)


@pytest.mark.parametrize("style", STYLES, ids=["dolly", "no intro", "own keys"])
@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("context", ["", "The sky is blue.\n"], ids=["no context", "context"])
def test_dollys_template_gives_the_ids_of_the_prompt_style(kind, style, context) -> None:
    tokenizer = with_style(TOKENIZERS[kind](), style)
    plain, encoder = (
        PromptEncoder(tokenizer, style),
        encoder_for(tokenizer, carried(None, style, tokenizer)),
    )
    instruction = f"Name a colour. {style.end_key} {style.response_marker} <|endoftext|> no"
    responses = [*RESPONSES, f"{style.end_key} of it"]
    input_ids, prompt_lengths = plain.examples(
        [instruction] * len(responses), [context] * len(responses), responses
    )

    encoded = encoder.examples(
        [Conversation.of_exchange(instruction, context, each) for each in responses],
        max_length=1000,
    )

    assert not encoded.refused
    assert [ids.input_ids.tolist() for _, ids in encoded.examples] == input_ids.to_pylist()
    assert [ids.prompt_length for _, ids in encoded.examples] == prompt_lengths.to_pylist()
    assert encoder.prompt(Conversation.of_exchange(instruction, context)) == plain.prompt(
        instruction, context
    )
    assert encoder.end_token_ids == (plain.end_token_id,)


def test_many_conversations_are_encoded_as_one_by_one() -> None:
    """By tiktoken, which a single one is not worth."""
    tokenizer = with_style(byte_level_tokenizer(), PromptStyle())
    encoder = encoder_for(tokenizer, carried("dolly", PromptStyle(), tokenizer))
    assert encoder.encoder == "tiktoken"
    texts = [
        "Name 1 colour.",
        "e\u0301 \u0338",
        "### End of <|endoftext|>",
        "  \n\n日本",
        "x " * 900,
    ]
    dialogues = [Conversation.of_exchange(text, "", text[::-1]) for text in texts] * 50
    together = encoder.examples(dialogues, max_length=10_000)
    alone = [encoder.examples([each], max_length=10_000).examples for each in dialogues[:5]]
    assert not together.refused
    assert [ids.input_ids.tolist() for _, ids in together.examples] == [
        ids.input_ids.tolist() for [(_, ids)] in alone
    ] * 50


def test_dollys_template_holds_a_dialogue() -> None:
    style = PromptStyle()
    tokenizer = with_style(byte_level_tokenizer(), style)
    encoder = encoder_for(tokenizer, carried("dolly", style, tokenizer))

    [(_, ids)] = encoder.examples([DIALOGUE], max_length=1000).examples

    assert tokenizer.decode(ids.input_ids) == (
        "Be brief.\n\n### Instruction:\nName a colour.\n\n### Response:\nBlue.\n\n### End\n\n"
        "### Instruction:\nAnother one.\n\nInput:\nThe sky is blue.\n\n### Response:\nGreen.\n\n"
        "### End"
    )
    assert [tokenizer.decode(ids.input_ids[slice(*span)]) for span in ids.spans] == [
        "Blue.\n\n### End",
        "Green.\n\n### End",
    ]
