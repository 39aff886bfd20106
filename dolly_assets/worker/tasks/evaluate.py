"""The evaluation task: each checkpoint is scored on a held-out split, and its scores published.

Beside them stands what it remembers of the records that it was trained on.
"""

import json
import math
from dataclasses import asdict
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dolly_assets.conversations.tables import prompt_and_answer_texts
from dolly_assets.core.markdown import LONGEST_CELL, markdown_table
from dolly_assets.core.names import epoch_key
from dolly_assets.family import ModelFamily
from dolly_assets.generation import evaluate as models
from dolly_assets.generation import memorization as memory
from dolly_assets.generation.evaluate import UNCATEGORIZED, Answer, ExactMatch, ExampleLosses
from dolly_assets.generation.model import LoadedModel, load_with_template
from dolly_assets.registry.attributes import EvaluationAttributes, TokenizedDatasetAttributes
from dolly_assets.registry.inputs import as_inputs, required_digest
from dolly_assets.registry.kinds import EVALUATION, KINDS, TOKENIZED_DATASET
from dolly_assets.registry.model_folders import fetch
from dolly_assets.scoring.examples import (
    SCORES_FILE,
    answer_figures,
    exact_match,
    held_out_loss,
    held_out_loss_by_category,
    token_f1,
    with_checked_answers,
)
from dolly_assets.scoring.memorization import (
    MEMORIZATION_FILE,
    memorization,
    reproduced_markdown,
)
from dolly_assets.scoring.power import smallest_share_difference
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.tokenization.tokenized_dataset import HELD_OUT_FILE, TRAIN_FILE
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.spec import Evaluate, WorkerSpec


def evaluate(spec: WorkerSpec[Evaluate], store: ArtifactStore, messenger: Messenger) -> None:
    """Publish the scores of each checkpoint, and of each example, as soon as it is scored."""
    task = spec.task
    for epoch, reference in sorted(task.checkpoints.items()):
        checkpoint = store.get(reference.name, reference.digest)
        tokenized = _scored_on(task, spec.family.name, store, checkpoint)
        answers = TokenizedDatasetAttributes.of(tokenized).answers
        held_out = tokenized.read_table(HELD_OUT_FILE)
        samples = _samples(spec.family, task, tokenized, held_out)
        losses, matches, probed = _score(
            spec.family, store, checkpoint, held_out, samples, exact=answers == "exact"
        )
        scores = _scores_by_example(held_out, losses, matches)
        attributes = EvaluationAttributes.model_validate(
            {
                "epoch": epoch,
                "settings": EVALUATION.code_version(spec.family),
                "answers": answers,
                "held_out_examples": held_out.num_rows,
                "calibration_error": losses.calibration_error,
                "exact_match_by_category": matches.score_by_category if matches else None,
                "answers_markdown": _answers_markdown(matches) if matches else None,
                **_scores(scores),
                **(_remembered(probed, samples) if samples and probed is not None else {}),
            }
        )
        messenger.log(_line(attributes))
        out = spec.scratch_dir / epoch_key(epoch)
        out.mkdir(parents=True)
        pq.write_table(scores, out / SCORES_FILE, compression="zstd")
        if probed is not None and probed.num_rows:
            pq.write_table(probed, out / MEMORIZATION_FILE, compression="zstd")
        (out / "evaluation.json").write_text(json.dumps(_document(losses.mean, matches), indent=1))
        artifact = store.publish(
            KINDS[task.asset].address(spec.family.name, task.dataset, epoch).name,
            out,
            kind=task.asset,
            inputs=as_inputs(checkpoint, tokenized),
            attributes=attributes.as_json(),
            made_by=spec.made_by,
        )
        messenger.emit_published(artifact)


class _Samples(NamedTuple):
    """The records whose memorization is probed, on both sides of the split."""

    training: memory.Sample
    held_out: memory.Sample


class _Scored(NamedTuple):
    """What was measured of a model; None where it was not asked for."""

    losses: ExampleLosses
    matches: ExactMatch | None
    probed: pa.Table | None


def _samples(
    family: ModelFamily, task: Evaluate, tokenized: Artifact, held_out: pa.Table
) -> _Samples | None:
    """Return the records to probe; None if none is asked for.

    A champion that is scored on another split than its own is not probed: it was not trained on
    these records.
    """
    records = family.evaluation.memorization_records
    if not records or task.tokenized_dataset:
        return None
    return _Samples(
        *(
            memory.sample(table, records=records, seed=family.recipe.seed)
            for table in (tokenized.read_table(TRAIN_FILE), held_out)
        )
    )


def _score(
    family: ModelFamily,
    store: ArtifactStore,
    checkpoint: Artifact,
    held_out: pa.Table,
    samples: _Samples | None,
    *,
    exact: bool,
) -> _Scored:
    """Load a checkpoint and score it; its memory is free when this returns."""
    weights, adapter, template = fetch(store, checkpoint)
    loaded = load_with_template(weights, family.prompt_style, template=template, adapter=adapter)
    settings = family.evaluation
    losses = models.held_out_losses(loaded.model, held_out, batch_size=settings.batch_size)
    probed = _probed(family, loaded, samples) if samples else None
    if not exact:
        return _Scored(losses, None, probed)
    matches = models.exact_match(
        loaded.model,
        loaded.tokenizer,
        held_out,
        end_token_ids=loaded.encoder.end_token_ids,
        examples=settings.examples,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        batching=settings.batching,
    )
    return _Scored(losses, matches, probed)


def _probed(family: ModelFamily, loaded: LoadedModel, samples: _Samples) -> pa.Table:
    return memory.probe(
        loaded.model,
        loaded.tokenizer,
        samples.training.examples,
        samples.held_out.examples,
        end_token_ids=loaded.encoder.end_token_ids,
        batch_size=family.evaluation.batch_size,
    )


def _remembered(probed: pa.Table, samples: _Samples) -> dict[str, Any]:
    """Return the attributes that follow from what was reproduced."""
    found = memorization(probed)
    shown = [found.sentence, reproduced_markdown(probed)]
    return {
        "memorized": found.training.value,
        "memorized_interval": found.training.interval,
        "memorized_held_out": found.held_out.value,
        "memorized_held_out_interval": found.held_out.interval,
        "memorization": found.above.value,
        "memorization_interval": found.above.interval,
        "memorization_too_short": samples.training.too_short,
        "memorization_markdown": "\n\n".join(filter(None, shown)),
    }


def _scores_by_example(
    held_out: pa.Table, losses: ExampleLosses, matches: ExactMatch | None
) -> pa.Table:
    """Return the table of SCORES_SCHEMA; examples that were not answered have no answer."""
    prompts, expected = map(list, zip(*prompt_and_answer_texts(held_out), strict=True))
    answers: list[str | None] = [None] * held_out.num_rows
    for row, each in enumerate(matches.answers if matches else ()):
        answers[row], expected[row] = each.answer, each.expected
    table = pa.table(
        {
            "record": held_out["record"],
            "category": [
                category or UNCATEGORIZED for category in held_out["category"].to_pylist()
            ],
            "labelled_tokens": losses.labelled_tokens.astype("int32"),
            "loss": losses.loss,
        }
    )
    return with_checked_answers(table, answers, expected, prompts)


def _scores(table: pa.Table) -> dict[str, Any]:
    """Return the attributes that follow from the scores of the examples."""
    loss, exact, f1 = held_out_loss(table), exact_match(table), token_f1(table)
    return {
        "held_out_loss": loss.value,
        "held_out_loss_interval": loss.interval,
        "held_out_loss_by_category": held_out_loss_by_category(table),
        "perplexity": _perplexity(loss.value),
        "exact_match": exact.value,
        "exact_match_interval": exact.interval,
        "token_f1": f1.value,
        "token_f1_interval": f1.interval,
        "smallest_difference": smallest_share_difference(exact.examples)
        if exact.examples
        else None,
        "answer_figures": answer_figures(table) or None,
    }


def _perplexity(loss: float | None) -> float | None:
    found = math.inf if loss is None else models.perplexity(loss)
    return found if math.isfinite(found) else None


def _scored_on(task: Evaluate, family: str, store: ArtifactStore, checkpoint: Artifact) -> Artifact:
    """Return the tokenized dataset on whose held-out split a checkpoint is scored."""
    if task.tokenized_dataset:
        return store.get(task.tokenized_dataset.name, task.tokenized_dataset.digest)
    name = TOKENIZED_DATASET.address(family, task.dataset).name
    return store.get(name, required_digest(checkpoint, TOKENIZED_DATASET))


def _line(scores: EvaluationAttributes) -> str:
    loss = math.nan if scores.held_out_loss is None else scores.held_out_loss
    parts = [f"epoch {scores.epoch}: held-out loss {loss:.4f}"]
    if scores.perplexity is not None:
        parts.append(f"perplexity {scores.perplexity:.2f}")
    if scores.exact_match is not None and scores.exact_match_interval:
        low, high = scores.exact_match_interval
        parts.append(f"exact match {scores.exact_match:.3f} ({low:.3f} to {high:.3f})")
    return ", ".join(parts)


def _document(loss: float, matches: ExactMatch | None) -> dict[str, Any]:
    return {
        "held_out_loss": loss,
        "perplexity": models.perplexity(loss),
        "exact_match": _matches_document(matches) if matches else None,
    }


def _matches_document(matches: ExactMatch) -> dict[str, Any]:
    return {
        "examples": matches.examples,
        "score": matches.score,
        "score_by_category": matches.score_by_category,
        "right": [asdict(each) for each in matches.right],
        "wrong": [asdict(each) for each in matches.wrong],
    }


def _answers_markdown(matches: ExactMatch) -> str:
    def table(title: str, answers: tuple[Answer, ...]) -> str:
        rows = [
            (_end_of(each.instruction), each.context, each.expected, each.answer)
            for each in answers
        ]
        header = ("instruction", "context", "expected", "answer")
        return f"**{title}**\n\n{markdown_table(header, rows)}" if rows else f"**{title}**: none"

    return "\n\n".join([table("Right", matches.right), table("Wrong", matches.wrong)])


def _end_of(prompt: str) -> str:
    """Return the end of a long prompt, which in a conversation is what was asked last."""
    return prompt if len(prompt) <= LONGEST_CELL else f"…{prompt[1 - LONGEST_CELL :]}"
