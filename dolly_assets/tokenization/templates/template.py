"""The text of a chat template: the base model's own, a bundled one, or that of a file.

Dolly's is made from the prompt style, and gives a single exchange the text of
`PromptStyle.prompt` and `completion`.
"""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.hashing import json_digest
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.templates.settings import NAMES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHATML = """\
{%- set has_system = messages[0].role == 'system' -%}
{%- if tools or has_system -%}
{{- '<|im_start|>system\\n' + (messages[0].content if has_system else '') -}}
{%- if tools -%}
{{- ('\\n\\n' if has_system else '') + 'You can call these functions:\\n<tools>' -}}
{%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
{{- '\\n</tools>\\nA call is a JSON object with the name of the function and its arguments:\\n' -}}
{{- '<tool_call>\\n{"name": "...", "arguments": {...}}\\n</tool_call>' -}}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in (messages[1:] if has_system else messages) -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.reasoning_content -%}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' -}}
{%- endif -%}
{%- if message.role == 'tool' -%}
{{- '<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
{%- else -%}
{{- message.content -}}
{%- endif -%}
{%- for call in message.tool_calls or [] -%}
{%- set stated = {'name': call.function.name, 'arguments': call.function.arguments} -%}
{{- '' if loop.first and not message.content else '\\n' -}}
{{- '<tool_call>\\n' + (stated | tojson) + '\\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
_EXCHANGES = """\
{%- if tools -%}{{- raise_exception('this layout has no place for tools') -}}{%- endif -%}
{%- set has_system = messages[0].role == 'system' -%}
{%- set opening = messages[0].content if has_system else INTRO -%}
{%- if opening -%}{{- SPACE + opening + '\\n\\n' -}}{%- endif -%}
{%- for message in (messages[1:] if has_system else messages) -%}
{%- if message.role == 'user' -%}
{%- if not loop.first -%}{{- '\\n\\n' -}}{%- endif -%}
{{- INSTRUCTION_KEY + '\\n' + message.content + '\\n\\n' -}}
{%- if message.context -%}{{- CONTEXT_KEY + '\\n' + message.context + '\\n\\n' -}}{%- endif -%}
{%- elif message.role == 'assistant' -%}
{{- RESPONSE_MARKER + message.content + END -}}
{%- else -%}
{{- raise_exception('this layout has no place for messages of the role ' + message.role) -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- RESPONSE_MARKER -}}{%- endif -%}
"""
_ALPACA_STYLE = PromptStyle(context_key="### Input:")
_MARKER = re.compile(r"<\|[^|<>\s]+\|>")


@dataclass(frozen=True)
class Template:
    """A chat template.

    Attributes:
        name: `base`, `dolly`, `alpaca`, `chatml`, or the name of a file.
        text: Its Jinja source.
    """

    name: str
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return json_digest(self.text)

    @property
    def new_tokens(self) -> tuple[str, ...]:
        """What it writes in the form `<|name|>`, which a tokenizer without them has to learn."""
        return tuple(dict.fromkeys(_MARKER.findall(self.text)))


def bundled(name: str, style: PromptStyle, tokenizer: "PreTrainedTokenizerBase") -> Template:
    """Return a bundled template for a tokenizer.

    Raises:
        ConfigurationError: There is none of this name.
    """
    begin, space = _begin(tokenizer)
    if name == "dolly":
        end = json_text("\n\n" + style.end_key)
        return Template(name, begin + _exchanges(style, end, space))
    if name == "alpaca":
        return Template(name, begin + _exchanges(_ALPACA_STYLE, "eos_token", space))
    if name == "chatml":
        return Template(name, begin + _CHATML)
    raise ConfigurationError(
        f"template: there is no template {name!r}; name one of {', '.join(NAMES)}, or a Jinja file "
        "beside the YAML, such as ./chat.jinja"
    )


def carried(
    name: str | None, style: PromptStyle | None, tokenizer: "PreTrainedTokenizerBase"
) -> Template:
    """Return the template that a prepared base model or a checkpoint carries.

    Args:
        name: What its attributes state; None in those of earlier versions, which know `dolly`.
        style: The wording of `dolly`; None for the one in the folder, where the family is unknown.
        tokenizer: The one in its weights folder.

    Raises:
        ConfigurationError: It should carry one and doesn't.
    """
    if name in (None, "dolly"):
        # Models of early versions carry none: they were trained with the default wording.
        if style is None and (text := own_text(tokenizer)):
            return Template("dolly", text)
        return bundled("dolly", style or PromptStyle(), tokenizer)
    if not (text := own_text(tokenizer)):
        raise ConfigurationError(
            f"the tokenizer has no chat template, expected that of template {name}: "
            "chat_template.jinja is missing beside it"
        )
    return Template(str(name), text)


def own_text(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """Return the template that a tokenizer has; of several, the one named `default`."""
    own: Any = tokenizer.chat_template
    return own.get("default") if isinstance(own, dict) else own


def _begin(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, str]:
    """Return how bundled templates begin, so that their ids are those of the text by default.

    A tokenizer may begin every text with a token, and put a space before the first word; both are
    then in the template, since a rendered text is encoded without additions.
    """
    with_bos = tokenizer("a").input_ids
    if tokenizer.bos_token_id is None or with_bos[0] != tokenizer.bos_token_id:
        return "", ""
    joined = tokenizer(f"{tokenizer.bos_token}a", add_special_tokens=False).input_ids
    return "{{- bos_token -}}\n", "" if joined == with_bos else " "


def json_text(text: str) -> str:
    """Return a text as a literal of Jinja."""
    return json.dumps(text, ensure_ascii=False)


def _exchanges(style: PromptStyle, end: str, space: str) -> str:
    """Return the layout of instruction, context and response for dialogues.

    A system message takes the place of the introduction.
    """
    values = {
        "INTRO": json_text(style.intro),
        "INSTRUCTION_KEY": json_text(style.instruction_key),
        "CONTEXT_KEY": json_text(style.context_key),
        "RESPONSE_MARKER": json_text(style.response_marker),
        "END": end,
        "SPACE": json_text(space),
    }
    return re.sub(r"\b[A-Z_]{3,}\b", lambda match: values[match[0]], _EXCHANGES)
