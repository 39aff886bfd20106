"""Whether an export answers as its model does, measured on prompts that were not trained on.

Greedy answers are compared token by token, with what ended them. What an export has lost is the
mean Kullback-Leibler divergence of its next tokens from the model's. It knows models and token ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from dolly_assets.generation.answer import answer_ids
from dolly_assets.generation.batches import batches_within

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MOST_DISTANCE = 0.05
"""The most that a rounded or quantized export may differ, in nats per token."""
LEAST_SHARED = 0.5
"""The least that another program's answers begin alike: one that reads a file wrongly has none."""
_BATCH = 16
_MOST_POSITIONS = 256  # whose next tokens are kept for the distance


class Agreement(BaseModel):
    """How far an export's answers are those of the model, for one program that read it."""

    model_config = ConfigDict(frozen=True)

    reader: str = Field(description="What read the export.")
    prompts: int
    equal: int = Field(description="Answers that are equal, with what ended them.")
    shared: float = Field(description="Share of an answer before the first difference, on average.")
    distance: float | None = Field(
        default=None, description="Divergence of the next tokens, in nats per token."
    )
    must_be_equal: bool = Field(description="Whether the export has lost nothing.")

    @property
    def passed(self) -> bool:
        """Whether the export is what was asked for."""
        if self.must_be_equal:
            return self.equal == self.prompts
        if self.distance is not None:
            return self.distance <= MOST_DISTANCE
        return self.shared >= LEAST_SHARED

    @property
    def sentence(self) -> str:
        """The figures in words."""
        line = f"{self.reader}: {self.equal} of {self.prompts} answers equal"
        if self.equal < self.prompts:
            line += f", {100 * self.shared:.0f} % of an answer before the first difference"
        if self.distance is not None:
            line += f", {self.distance:.2g} nats per token apart"
        return line


@dataclass(frozen=True)
class Answered:
    """What a model answered.

    Attributes:
        prompts: Token ids.
        answers: Token ids, each through what ended it.
        next_tokens: Logarithms of the probabilities at some positions of the answers.
    """

    prompts: tuple[tuple[int, ...], ...]
    answers: tuple[tuple[int, ...], ...]
    next_tokens: "torch.Tensor"


def answered(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    *,
    end_token_ids: Sequence[int],
    max_new_tokens: int,
    like: Answered | None = None,
) -> Answered:
    """Return a model's greedy answers.

    Args:
        model: The model.
        tokenizer: Its own.
        prompts: Token ids.
        end_token_ids: The tokens that end an answer.
        max_new_tokens: Length of the longest answer in tokens.
        like: Another model's answers, at whose positions the next tokens are compared.
    """
    answers: list[tuple[int, ...]] = [()] * len(prompts)
    for rows in batches_within([*map(len, prompts)], _BATCH):
        found = answer_ids(
            model,
            tokenizer,
            [prompts[row] for row in rows],
            end_token_ids=end_token_ids,
            max_new_tokens=max_new_tokens,
        )
        for row, tokens in zip(rows, found, strict=True):
            answers[row] = tuple(tokens)
    given = tuple(map(tuple, prompts))
    own: Sequence[Sequence[int]] = like.answers if like else answers
    return Answered(given, tuple(answers), _next(model, given, own))


def agreement(model: Answered, export: Answered, reader: str, *, must_be_equal: bool) -> Agreement:
    """Compare an export's answers with those of its model.

    Args:
        model: The model's.
        export: The export's, to the same prompts.
        reader: What read the export.
        must_be_equal: Whether the export has lost nothing.
    """
    pairs = [*zip(model.answers, export.answers, strict=True)]
    divergence = model.next_tokens.exp() * (model.next_tokens - export.next_tokens)
    return Agreement(
        reader=reader,
        prompts=len(pairs),
        equal=sum(one == other for one, other in pairs),
        shared=_mean([_shared(one, other) for one, other in pairs]),
        distance=max(0.0, float(divergence.sum(-1).mean())),
        must_be_equal=must_be_equal,
    )


def agreement_of_tokens(model: Answered, found: Sequence[Sequence[int]], reader: str) -> Agreement:
    """Compare the answers of another program, of which only the tokens are known."""
    pairs = [(one, tuple(other)) for one, other in zip(model.answers, found, strict=True)]
    return Agreement(
        reader=reader,
        prompts=len(pairs),
        equal=sum(one == other for one, other in pairs),
        shared=_mean([_shared(one, other) for one, other in pairs]),
        must_be_equal=False,
    )


def _shared(one: Sequence[int], other: Sequence[int]) -> float:
    """Return the share of the longer answer before the first difference."""
    longest = max(len(one), len(other))
    same = next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    return same / longest if longest else 1.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 1.0


def _next(
    model: "PreTrainedModel", prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> "torch.Tensor":
    """Return the logarithms of the next tokens' probabilities along the answers, on the CPU."""
    import torch

    left, rows = _MOST_POSITIONS, list[torch.Tensor]()
    with torch.no_grad():
        for prompt, answer in zip(prompts, answers, strict=True):
            if not left or not answer:
                break
            ids = torch.tensor([[*prompt, *answer[:-1]]], device=model.device)
            logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :][:left]
            rows.append(logits.float().log_softmax(-1).cpu())
            left -= len(logits)
    return torch.cat(rows) if rows else torch.zeros(1, 1)
