"""Sampled tokens that depend on a prompt's own seed, and not on what it is answered beside.

The token with the largest sum of log-probability and Gumbel noise is a sample of the distribution
(Gumbel-max; Maddison, Tarlow and Minka, A* Sampling, 2014, section 2). So a batch is decoded
greedily, and each row has a noise of its own, which is made on the CPU, whatever the model runs on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: Divides the logits; above 0.
        top_p: Share of the probability that is sampled from (nucleus sampling).
        seeds: The seed of each prompt.
    """

    temperature: float
    top_p: float
    seeds: tuple[int, ...]

    def of(self, rows: Sequence[int]) -> "Sampling":
        """Return the sampling of some of the prompts."""
        return Sampling(self.temperature, self.top_p, tuple(self.seeds[row] for row in rows))


class NoisyLogits:
    """A logits processor with which the largest logit of a row is a sample from its seed."""

    def __init__(self, sampling: Sampling) -> None:
        import torch
        from transformers.generation.logits_process import (
            LogitsProcessorList,
            TemperatureLogitsWarper,
            TopPLogitsWarper,
        )

        self._warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
        if sampling.top_p < 1:  # it sorts the vocabulary
            self._warpers.append(TopPLogitsWarper(sampling.top_p))
        self._random = [torch.Generator().manual_seed(seed) for seed in sampling.seeds]

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        """Return (rows, vocabulary) logits with noise, in float32."""
        import torch

        warped = self._warpers(input_ids, scores.float())  # pyright: ignore[reportArgumentType]
        width = warped.shape[-1]
        uniform = torch.stack([torch.rand(width, generator=each) for each in self._random])
        return warped - torch.log(-torch.log(uniform)).to(warped.device)
