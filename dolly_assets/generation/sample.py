"""Sample responses, which show how a model changes from epoch to epoch.

The same prompt and seed give the same response.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.hashing import json_digest
from dolly_assets.tokenization.prompt_style import PromptStyle

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Prompt(Config):
    """A prompt for a model, before it is laid out."""

    instruction: str = Field(min_length=1, description="The task.")
    context: str = Field(
        default="", description="Text that the task refers to, where the instruction is not enough."
    )

    @property
    def text(self) -> str:
        """The instruction, and the context below it."""
        return f"{self.instruction}\n\n{self.context}" if self.context else self.instruction


DEFAULT_PROMPTS = (
    Prompt(
        instruction="Write a story about a person who cannot see the random forest "
        "because they are caught up in the decision trees."
    ),
    Prompt(
        instruction="Summarize the text in one sentence.",
        context="Coral reefs cover less than one percent of the ocean floor, yet about a quarter "
        "of all marine species live in them. They shelter coasts from storms and feed millions of "
        "people. Warmer water makes corals expel the algae that they live on, which leaves the "
        "reef white and, if the heat lasts, dead.",
    ),
    Prompt(instruction="Give me five ideas for a rainy Sunday with two small children."),
    Prompt(
        instruction="Is the review positive or negative? Answer with one word.",
        context="The battery died after two days and nobody answered my letters.",
    ),
    Prompt(instruction="Why does the moon always show us the same side?"),
)


def sample_responses(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    style: PromptStyle,
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
    """
    import torch

    from dolly_assets.generation.answer import answer
    from dolly_assets.tokenization.encode import PromptEncoder

    encoder = PromptEncoder(tokenizer, style)
    answers = []
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        for prompt in prompts:
            torch.manual_seed(_prompt_seed(seed, prompt))
            answers += answer(
                model,
                tokenizer,
                [encoder.prompt(prompt.instruction, prompt.context)],
                end_token_id=encoder.end_token_id,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_p=top_p,
            )
    return answers


def _prompt_seed(seed: int, prompt: Prompt) -> int:
    return int(json_digest([seed, prompt.instruction, prompt.context])[:8], 16)
