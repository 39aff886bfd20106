"""Which template a base model is to carry, with what it reads from outside fixed.

A template that prints today's date would give other tokens every day, and one that opens thinking
in its generation prompt alone has no labels that can be proven. Both are fixed in the text that is
published, so that training, evaluation and servers render the same. It knows no files.
"""

import re
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import ConfigurationError, TemplateError
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.templates.probe import Probe
from dolly_assets.tokenization.templates.render import Renderer
from dolly_assets.tokenization.templates.settings import NAMES, TemplateFile
from dolly_assets.tokenization.templates.template import Template, bundled, json_text, own_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FROZEN_DATE = date(2024, 7, 26)
"""The date that templates print instead of today's: the default of Llama's templates."""

_DATE = "strftime_now"
_THINKING = "enable_thinking"
_GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")  # transformers' own tag


def choose(
    wanted: str | TemplateFile | None, style: PromptStyle, tokenizer: "PreTrainedTokenizerBase"
) -> Template:
    """Return the template that a family asks for.

    Args:
        wanted: `base`, a bundled template's name, or a file; None for the base model's own, or
            `dolly` where it has none.
        style: The wording of `dolly`.
        tokenizer: The base model's.

    Raises:
        ConfigurationError: The base model has no template, or none is known by this name.
        TemplateError: The template is no Jinja.
    """
    own = own_text(tokenizer)
    if isinstance(wanted, TemplateFile):
        return _fixed(Template(wanted.name, wanted.text), tokenizer)
    if wanted == "base" or (wanted is None and own and style == PromptStyle()):
        if not own:
            raise ConfigurationError(
                "template: base: the base model has no chat template; name one of "
                f"{', '.join(NAMES[1:])}, or a Jinja file beside the YAML, such as ./chat.jinja"
            )
        return _fixed(Template("base", own), tokenizer)
    return bundled(wanted or "dolly", style, tokenizer)


def _fixed(template: Template, tokenizer: "PreTrainedTokenizerBase") -> Template:
    """Return the template with what it reads from outside fixed, as little as is needed."""
    frozen = Template(template.name, _with_frozen_date(template))
    for each in _with_thinking(frozen):
        try:
            Probe(Renderer(each, tokenizer.special_tokens_map))
        except TemplateError:
            continue
        return each
    return frozen


def _with_thinking(template: Template) -> Iterator[Template]:
    """Yield the template, and as it is with thinking off or on unless a caller says otherwise."""
    yield template
    if _THINKING in template.text:
        for default in ("false", "true"):
            setting = f"{{%- set {_THINKING} = {_THINKING} | default({default}) +%}}"
            yield Template(template.name, setting + template.text)


def _with_frozen_date(template: Template) -> str:
    """Return the text of a template that prints a fixed date where it prints today's.

    transformers offers `strftime_now`; a macro of this name, on the first line so that line numbers
    stay, hides it.
    """
    name, text = template.name, template.text
    if _DATE not in text or f"macro {_DATE}" in text:
        return text
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    parser = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        tree = parser.parse(_GENERATION.sub("", text))
    except TemplateSyntaxError as error:
        raise TemplateError(f"template {name}, line {error.lineno}: {error.message}") from error
    formats: dict[str, None] = {}
    for call in tree.find_all(nodes.Call):
        if getattr(call.node, "name", None) == _DATE:
            argument: Any = call.args[0] if call.args else None
            if not isinstance(argument, nodes.Const):
                raise TemplateError(
                    f"template {name}, line {call.lineno}: it prints today's date in a format that "
                    "it computes: write the format as a text, so that the date can be fixed"
                )
            formats[argument.value] = None
    cases = "".join(
        f"{{%- if format == {json_text(each)} -%}}{FROZEN_DATE.strftime(each)}{{%- endif -%}}"
        for each in formats
    )
    return f"{{%- macro {_DATE}(format) -%}}{cases}{{%- endmacro +%}}{text}"
