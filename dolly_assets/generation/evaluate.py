"""Scores of a model on held-out examples: loss, perplexity and exact match.

The examples are a table in the form of `TokenizedDataset.held_out`. The module knows nothing of
checkpoints and stores.
"""

import inspect
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from dolly_assets.core.errors import DatasetError
from dolly_assets.generation.answer import Batching, answers_in_batches
from dolly_assets.generation.batches import BATCH_TOKENS, batches_within
from dolly_assets.scoring.calibration import Calibration
from dolly_assets.scoring.texts import is_exact
from dolly_assets.tokenization.labels import LabelRuns, token_mask
from dolly_assets.training.packing.attention import PackedAttention
from dolly_assets.training.packing.batches import PackedRow, PaddingCollator
from dolly_assets.training.packing.loss import LabelLoss

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# How many right and how many wrong answers are kept for inspection.
SAMPLES = 5
UNCATEGORIZED = "uncategorized"


@dataclass(frozen=True)
class Answer:
    """A held-out example and the model's answer to it.

    Of a conversation, the instruction is all that precedes its last labelled turn, which is what is
    expected; both are decoded from the ids that the model reads.
    """

    instruction: str
    context: str
    category: str
    expected: str
    answer: str

    @property
    def is_right(self) -> bool:
        """Whether the answer equals the expected one, apart from surrounding white space."""
        return is_exact(self.answer, self.expected)


@dataclass(frozen=True)
class ExactMatch:
    """How many answers equal the expected ones exactly.

    Attributes:
        examples: Number of answers that were compared.
        score: Share of right answers, 0 to 1.
        score_by_category: The same within each category, by name.
        answers: All answers, in the order of the examples.
    """

    examples: int
    score: float
    score_by_category: dict[str, float]
    answers: tuple[Answer, ...]

    @property
    def right(self) -> tuple[Answer, ...]:
        """The first few right answers."""
        return tuple(islice((each for each in self.answers if each.is_right), SAMPLES))

    @property
    def wrong(self) -> tuple[Answer, ...]:
        """The first few wrong answers."""
        return tuple(islice((each for each in self.answers if not each.is_right), SAMPLES))


class ExampleLosses(NamedTuple):
    """The losses of a table's examples.

    Attributes:
        loss: Negative log-likelihood of each example's labelled tokens, summed, in nats (float64).
        labelled_tokens: How many these are (int64).
        calibration_error: Expected calibration error over all of them, 0 to 1; None if a loss is
            not finite.
    """

    loss: np.ndarray
    labelled_tokens: np.ndarray
    calibration_error: float | None

    @property
    def mean(self) -> float:
        """The loss per labelled token, in nats, which does not depend on the batches."""
        return float(self.loss.sum() / self.labelled_tokens.sum())


def held_out_losses(model: "PreTrainedModel", table: pa.Table, *, batch_size: int) -> ExampleLosses:
    """Return the losses of all examples of a table.

    They are summed in float64. Logits are computed of labelled tokens only, as in training.

    Args:
        model: The model to score.
        table: The held-out examples.
        batch_size: The most examples of a batch; a batch has BATCH_TOKENS tokens at most.

    Raises:
        DatasetError: The table has no example.
    """
    import torch

    _check_not_empty(table)
    input_ids, runs = table["input_ids"].to_pylist(), LabelRuns.of(table)
    lengths, labelled = [len(ids) for ids in input_ids], _LabelledTokens(model)
    counts, losses, calibration = runs.predicted, np.zeros(table.num_rows), Calibration()
    tokens = 0 if labelled.one_by_one else BATCH_TOKENS
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for rows in batches_within(lengths, batch_size, tokens):
                scored = labelled.score(
                    [np.array(input_ids[row], np.int32) for row in rows],
                    [runs[row] for row in rows],
                )
                parts = np.split(scored.loss, counts[rows].cumsum()[:-1])
                losses[rows] = [part.sum() for part in parts]
                calibration.add(scored.confidence, scored.is_right)
    finally:
        model.train(was_training)
    error = calibration.error if np.isfinite(losses).all() else None
    return ExampleLosses(losses, counts, error)


def perplexity(loss: float) -> float:
    """Return the perplexity of a mean loss in nats; infinite where a float cannot hold it."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def exact_match(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    table: pa.Table,
    *,
    end_token_ids: Sequence[int],
    examples: int,
    max_new_tokens: int,
    batch_size: int,
    batching: Batching = "static",
) -> ExactMatch:
    """Answer the first rows greedily, and count the answers that equal the expected ones exactly.

    Args:
        model: The model to score.
        tokenizer: The model's own.
        table: The held-out examples.
        end_token_ids: The tokens that end an answer.
        examples: How many of them to answer, at most.
        max_new_tokens: Length of the longest answer in tokens.
        batch_size: How many prompts to answer at once.
        batching: As in `answers_in_batches`.

    Raises:
        DatasetError: The table has no example.
    """
    _check_not_empty(table)
    table = table.slice(0, examples)
    records, runs = table.to_pylist(), LabelRuns.of(table)
    prompts = [record["input_ids"][: record["prompt_length"]] for record in records]
    texts = answers_in_batches(
        model,
        tokenizer,
        prompts,
        end_token_ids=end_token_ids,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        batching=batching,
    )
    return _score(
        [_answer(record, runs[row], texts[row], tokenizer) for row, record in enumerate(records)]
    )


def _answer(
    record: dict[str, Any], runs: np.ndarray, text: str, tokenizer: "PreTrainedTokenizerBase"
) -> Answer:
    if "messages" in record:
        ids, start = record["input_ids"], record["prompt_length"]
        end = len(ids) - (runs[-1] if len(runs) % 2 else 0)
        asked, expected = tokenizer.batch_decode(
            [ids[:start], ids[start:end]],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
    else:
        asked, expected = record["instruction"], record["response"]
    return Answer(
        instruction=asked,
        context=record.get("context", ""),
        category=record["category"] or UNCATEGORIZED,
        expected=expected,
        answer=text,
    )


def _score(answers: Sequence[Answer]) -> ExactMatch:
    rights_by_category: defaultdict[str, list[bool]] = defaultdict(list)
    for scored in answers:
        rights_by_category[scored.category].append(scored.is_right)
    return ExactMatch(
        examples=len(answers),
        score=sum(scored.is_right for scored in answers) / len(answers),
        score_by_category={
            category: sum(rights) / len(rights)
            for category, rights in sorted(rights_by_category.items())
        },
        answers=tuple(answers),
    )


class _Scored(NamedTuple):
    """Labelled tokens of a batch, one example after the other.

    Attributes:
        loss: Negative log-likelihood of each token (float64).
        confidence: Probability of the likeliest token in its place.
        is_right: Whether that is the token.
    """

    loss: np.ndarray
    confidence: np.ndarray
    is_right: np.ndarray


class _LabelledTokens:
    """Computes how likely a model finds labelled tokens, from their logits alone."""

    def __init__(self, model: "PreTrainedModel") -> None:
        self._model, self._loss = model, LabelLoss(model, PackedAttention())
        self._selects = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._collator = PaddingCollator(pad_token_id=0)
        # Over several devices a mask would be on another one than what it selects from.
        self.one_by_one = len(set(getattr(model, "hf_device_map", {}).values())) > 1

    def score(self, examples: Sequence[np.ndarray], runs: Sequence[np.ndarray]) -> _Scored:
        """Score every labelled token of a batch; logits are read in float32."""
        import torch

        if self.one_by_one:
            logits, targets = self._of_one(examples[0], runs[0])
        else:
            batch = self._collator([PackedRow(tuple(examples), tuple(runs), 0)])
            device = self._model.device
            batch["input_ids"] = batch["input_ids"].to(device)
            batch["logits_to_keep"] = batch["logits_to_keep"].to(device)
            batch["targets"] = batch["targets"].to(device)
            if "attention_mask" in batch:
                batch["attention_mask"] = batch["attention_mask"].to(device)
            logits, targets = self._loss.logits(self._model, batch), batch["targets"]
        log_probabilities = torch.log_softmax(logits.float(), dim=-1)
        likeliest, places = log_probabilities.max(dim=-1)
        losses = -log_probabilities.gather(-1, targets[:, None])[:, 0]
        return _Scored(
            losses.double().cpu().numpy(),
            likeliest.exp().double().cpu().numpy(),
            (places == targets).cpu().numpy(),
        )

    def _of_one(self, example: np.ndarray, runs: np.ndarray) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return logits and targets of one example."""
        import torch

        ids = torch.from_numpy(example[None].astype(np.int64)).to(self._model.device)
        labelled = torch.from_numpy(np.flatnonzero(token_mask([runs])))
        kept = {"logits_to_keep": labelled - 1} if self._selects else {}
        logits = self._model(input_ids=ids, use_cache=False, **kept).logits[0]
        if not self._selects:
            logits = logits[labelled - 1]
        return logits, ids[0, labelled].to(logits.device)


def _check_not_empty(table: pa.Table) -> None:
    if not table.num_rows:
        raise DatasetError(
            "no held-out example to evaluate on: set recipe.held_out_examples to 1 or more"
        )
