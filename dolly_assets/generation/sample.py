"""Sample responses, which show how a model changes from epoch to epoch.

The same prompt and seed give the same response.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dolly_assets.core.hashing import json_digest
from dolly_assets.generation.prompt import Prompt
from dolly_assets.generation.sampling import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dolly_assets.tokenization.templates.encoder import Encoder


def sample_responses(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    encoder: "Encoder",
    prompts: Sequence[Prompt],
    *,
    seed: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    batch_size: int = 16,
) -> list[str]:
    """Return the response to each prompt, sampled from the seed and this prompt alone.

    A response stays the same when other prompts are added, removed or moved.

    Args:
        model: As in `dolly_assets.generation.answer.answer`.
        tokenizer: The model's own.
        encoder: The model's template.
        prompts: The prompts.
        seed: With each prompt, what its answer is sampled from.
        max_new_tokens: Length of the longest answer in tokens.
        temperature: 0 decodes greedily.
        top_p: As in `Sampling`.
        batch_size: How many prompts to answer at once.

    Raises:
        TemplateError: The model's template refuses a prompt.
    """
    from dolly_assets.generation.answer import answers_in_batches

    seeds = tuple(_prompt_seed(seed, prompt) for prompt in prompts)
    return answers_in_batches(
        model,
        tokenizer,
        [encoder.prompt(prompt.conversation) for prompt in prompts],
        end_token_ids=encoder.end_token_ids,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        sampling=Sampling(temperature, top_p, seeds) if temperature else None,
    )


def _prompt_seed(seed: int, prompt: Prompt) -> int:
    asked = [prompt.instruction, prompt.context]
    if prompt.messages or prompt.system or prompt.tools:
        conversation = prompt.conversation
        asked = [conversation.messages_json(), conversation.tools_json()]
    return int(json_digest([seed, *asked])[:8], 16)
