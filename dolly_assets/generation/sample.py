"""Sample responses, which show how a model changes from epoch to epoch.

The same prompt and seed give the same response.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dolly_assets.core.hashing import json_digest
from dolly_assets.generation.prompt import Prompt

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
) -> list[str]:
    """Return the response to each prompt, sampled from the seed and this prompt alone.

    A response stays the same when other prompts are added, removed or moved. The global random
    state is restored. `dolly_assets.generation.answer.answer` documents the settings.

    Raises:
        TemplateError: The model's template refuses a prompt.
    """
    import torch

    from dolly_assets.generation.answer import answer

    answers = []
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        for prompt in prompts:
            torch.manual_seed(_prompt_seed(seed, prompt))
            answers += answer(
                model,
                tokenizer,
                [encoder.prompt(prompt.conversation)],
                end_token_ids=encoder.end_token_ids,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_p=top_p,
            )
    return answers


def _prompt_seed(seed: int, prompt: Prompt) -> int:
    asked = [prompt.instruction, prompt.context]
    if prompt.messages or prompt.system or prompt.tools:
        conversation = prompt.conversation
        asked = [conversation.messages_json(), conversation.tools_json()]
    return int(json_digest([seed, *asked])[:8], 16)
