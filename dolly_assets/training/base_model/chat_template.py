"""The chat template that a base model carries, with the tokens that it needs.

It knows templates and tokenizers; which template a family wants it is told.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue

from dolly_assets.tokenization.templates.template import Template
from dolly_assets.training.base_model.special_tokens import (
    add_special_tokens,
    add_to_tokenizer,
    fit,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

ChooseTemplate = Callable[["PreTrainedTokenizerBase"], Template]


def add_tokens(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    special_tokens: Sequence[str],
    choose: ChooseTemplate | None,
) -> dict[str, JsonValue]:
    """Have model and tokenizer carry a template, and add the tokens that it lacks.

    Args:
        model: Its embeddings grow where needed, and its configurations are updated.
        tokenizer: The model's own.
        special_tokens: Those of the prompt style, for `dolly`; the one that ends an answer first.
        choose: Chooses the template; None for a model that carries none.

    Returns:
        template, template_digest, template_facts and new_tokens.

    Raises:
        ConfigurationError: There is no such template.
        TemplateError: The template cannot be trained with.
    """
    from dolly_assets.tokenization.templates.encoder import encoder_for

    if choose is None:
        add_special_tokens(model, tokenizer, special_tokens)
        return {}
    template = choose(tokenizer)
    is_dolly = template.name == "dolly"
    wanted = special_tokens if is_dolly else template.new_tokens
    vocabulary = tokenizer.get_vocab()
    new: list[JsonValue] = [token for token in wanted if token not in vocabulary]
    add_to_tokenizer(tokenizer, special_tokens if is_dolly else list(map(str, new)))
    tokenizer.chat_template = template.text
    encoder = encoder_for(tokenizer, template)
    fit(model, tokenizer, encoder.end_token_ids)
    return {
        "template": template.name,
        "template_digest": template.digest,
        "template_facts": encoder.facts.as_json(),
        "new_tokens": new,
    }
