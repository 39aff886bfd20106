"""Templates in Go: which can be written, and what they write. Ollama itself is asked elsewhere."""

from typing import Any

import pytest

from dolly_assets.core.errors import TemplateError
from dolly_assets.exporting.go_template import Layout, layout_of
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.templates.render import Renderer
from dolly_assets.tokenization.templates.template import Template, bundled
from dolly_assets_tests.exporting.conftest import STYLE

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
CONTENT_FIRST = "{% for m in messages %}{{ m.content }}{% endfor %}"


def renderer(text: str) -> Renderer:
    return Renderer(Template("own", text), SPECIAL)


@pytest.mark.parametrize("name", ["dolly", "alpaca", "chatml"])
def test_bundled_templates_can_be_written(name: str, tokenizer: Any) -> None:
    layout = layout_of(Renderer(bundled(name, STYLE, tokenizer), SPECIAL))
    assert layout.before_system is not None
    assert layout.in_go().count("{{- end -}}") == 4


def test_a_default_system_message_and_one_that_is_given() -> None:
    layout = layout_of(
        renderer(
            "{{ bos_token }}{% if messages[0].role != 'system' %}<sys>Be kind.</sys>{% endif %}"
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
            "{% if add_generation_prompt %}<assistant>{% endif %}"
        )
    )
    assert layout == Layout(
        opening="<s><sys>Be kind.</sys><user>",
        before_system="<s><system>",
        after_system="</system><user>",
        answer="</user><assistant>",
        question="</assistant><user>",
        generation="</user><assistant>",
    )
    assert layout.without("<s>").before_system == "<system>"
    assert '{{ "<s><system>" }}{{ $.System }}{{ "</system><user>" }}' in layout.in_go()


def test_a_system_message_within_the_first_question() -> None:
    layout = layout_of(
        renderer(
            "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}]"
            "{% if loop.index0 == 1 and messages[0].role == 'system' %}{{ messages[0].content }}\n"
            "{% endif %}{{ m.content }}[end]{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}[assistant]{% endif %}"
        )
    )
    assert (layout.before_system, layout.after_system) == ("[user]", "\n")


def test_a_template_without_a_place_for_system_messages() -> None:
    layout = layout_of(
        renderer(
            "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}"
            "{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
            "{% if add_generation_prompt %}[assistant]{% endif %}"
        )
    )
    assert layout.before_system is None
    assert "System" not in layout.in_go()


@pytest.mark.parametrize(
    "text",
    [
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ loop.index }}: {{ m.content }}\n{% endfor %}",
        "{{ messages[-1].content }}",
    ],
    ids=["changed", "twice", "numbered", "last only"],
)
def test_what_cannot_be_written_in_go_is_refused(text: str) -> None:
    with pytest.raises(TemplateError, match="template own: it cannot be written in Go"):
        layout_of(renderer(text))


def test_quotes_and_line_breaks_are_go_literals() -> None:
    style = PromptStyle(intro='Say "yes"\nor no \\.')
    text = bundled("dolly", style, _NoBos()).text  # pyright: ignore[reportArgumentType]
    assert (
        r'{{ "Say \"yes\"\nor no \\.\n\n### Instruction:\n" }}' in layout_of(renderer(text)).in_go()
    )


class _NoBos:
    bos_token_id = None

    def __call__(self, text: str) -> Any:
        return type("Encoding", (), {"input_ids": [1]})
