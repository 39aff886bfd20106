"""The evaluation task: each checkpoint is scored on a held-out split, and its scores published."""

import json
import math
from dataclasses import asdict
from typing import Any

from dolly_assets.core.markdown import LONGEST_CELL, markdown_table
from dolly_assets.core.names import epoch_key
from dolly_assets.generation.evaluate import (
    Answer,
    ExactMatch,
    exact_match,
    held_out_loss,
    perplexity,
)
from dolly_assets.generation.model import load_with_template
from dolly_assets.registry.attributes import EvaluationAttributes, TokenizedDatasetAttributes
from dolly_assets.registry.inputs import as_inputs, required_digest
from dolly_assets.registry.kinds import EVALUATION, KINDS, TOKENIZED_DATASET
from dolly_assets.registry.model_folders import fetch
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.tokenization.tokenized_dataset import HELD_OUT_FILE
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.spec import Evaluate, WorkerSpec


def evaluate(spec: WorkerSpec[Evaluate], store: ArtifactStore, messenger: Messenger) -> None:
    """Publish evaluation.json for each checkpoint as soon as it is scored."""
    task, family = spec.task, spec.family
    settings = family.evaluation
    for epoch, reference in sorted(task.checkpoints.items()):
        checkpoint = store.get(reference.name, reference.digest)
        tokenized = _scored_on(task, family.name, store, checkpoint)
        answers = TokenizedDatasetAttributes.of(tokenized).answers
        held_out = tokenized.read_table(HELD_OUT_FILE)
        weights, adapter, template = fetch(store, checkpoint)
        loaded = load_with_template(
            weights, family.prompt_style, template=template, adapter=adapter
        )
        loss = held_out_loss(loaded.model, held_out, batch_size=settings.batch_size)
        matches = None
        if answers == "exact":
            matches = exact_match(
                loaded.model,
                loaded.tokenizer,
                held_out,
                end_token_ids=loaded.encoder.end_token_ids,
                examples=settings.examples,
                max_new_tokens=settings.max_new_tokens,
                batch_size=settings.batch_size,
            )
        messenger.log(_line(epoch, loss, matches))
        out = spec.scratch_dir / epoch_key(epoch)
        out.mkdir(parents=True)
        (out / "evaluation.json").write_text(json.dumps(_document(loss, matches), indent=1))
        artifact = store.publish(
            KINDS[task.asset].address(family.name, task.dataset, epoch).name,
            out,
            kind=task.asset,
            inputs=as_inputs(checkpoint, tokenized),
            attributes=EvaluationAttributes(
                epoch=epoch,
                settings=EVALUATION.code_version(family),
                answers=answers,
                held_out_loss=loss if math.isfinite(loss) else None,
                perplexity=perplexity(loss) if math.isfinite(perplexity(loss)) else None,
                held_out_examples=held_out.num_rows,
                exact_match=matches.score if matches else None,
                exact_match_by_category=dict(matches.score_by_category) if matches else None,
                answers_markdown=_answers_markdown(matches) if matches else None,
            ).as_json(),
            made_by=spec.made_by,
        )
        messenger.emit_published(artifact)
        del loaded  # before the next checkpoint is loaded


def _scored_on(task: Evaluate, family: str, store: ArtifactStore, checkpoint: Artifact) -> Artifact:
    """Return the tokenized dataset on whose held-out split a checkpoint is scored."""
    if task.tokenized_dataset:
        return store.get(task.tokenized_dataset.name, task.tokenized_dataset.digest)
    name = TOKENIZED_DATASET.address(family, task.dataset).name
    return store.get(name, required_digest(checkpoint, TOKENIZED_DATASET))


def _line(epoch: int, loss: float, matches: ExactMatch | None) -> str:
    line = f"epoch {epoch}: held-out loss {loss:.4f}, perplexity {perplexity(loss):.2f}"
    return f"{line}, exact match {matches.score:.3f}" if matches else line


def _document(loss: float, matches: ExactMatch | None) -> dict[str, Any]:
    return {
        "held_out_loss": loss,
        "perplexity": perplexity(loss),
        "exact_match": asdict(matches) if matches else None,
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
