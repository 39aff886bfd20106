import pytest
from pydantic import ValidationError

from dolly_assets.tokenization.prompt_style import PromptStyle


def test_an_example_is_laid_out_as_dolly_published_it() -> None:
    style = PromptStyle()
    assert style.prompt("Add.", "1, 2") + style.completion("3") == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request."
        "\n\n### Instruction:\nAdd.\n\nInput:\n1, 2\n\n### Response:\n3\n\n### End"
    )


def test_no_context_and_no_intro_leave_no_trace() -> None:
    style = PromptStyle(intro="")
    assert style.prompt("Add.") == "### Instruction:\nAdd.\n\n### Response:\n"


def test_the_special_tokens_are_dollys() -> None:
    assert PromptStyle().special_tokens == ("### End", "### Instruction:", "### Response:\n")


@pytest.mark.parametrize("key", ["instruction_key", "context_key", "response_key", "end_key"])
def test_an_empty_key_is_refused_by_name(key) -> None:
    with pytest.raises(ValidationError, match=key):
        PromptStyle(**{key: ""})


def test_two_equal_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="### End"):
        PromptStyle(response_key="### End")
