"""Judgements: which answers in the store a judge compares, and what it was asked before.

Where answers can be checked, evaluations hold the answers to the held-out prompts, and these are
judged. Where they are open, nothing generates such answers: the answers to the family's own
prompts, which `sample_responses` holds, are judged instead.
"""

import json
from typing import Any, NamedTuple

from dolly_assets.core.errors import ArtifactError
from dolly_assets.generation.prompt import Prompt
from dolly_assets.judging.exchange import EXCHANGES_FILE, Exchange, exchanges_of
from dolly_assets.judging.pairs import Pair
from dolly_assets.judging.prompt import Question
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import EvaluationAttributes
from dolly_assets.registry.kinds import EVALUATION, JUDGEMENT, SAMPLE_RESPONSES
from dolly_assets.registry.queries import history, newest, required
from dolly_assets.scoring.examples import SCORES_FILE
from dolly_assets.storage.artifact import Artifact, ArtifactStore

_RESPONSES_FILE = "responses.json"


class Compared(NamedTuple):
    """The answers of an epoch and those of the base model to the same prompts."""

    new: Artifact
    base: Artifact


def compared_answers(store: ArtifactStore, address: ArtifactAddress) -> Compared:
    """Return what the judgement at an address is about: evaluations, or sample responses.

    Raises:
        ArtifactError: The answers of the epoch or of the base model are not in the store.
    """
    evaluation = required(store, EVALUATION.address(address.family, address.dataset, address.epoch))
    has_answers = EvaluationAttributes.of(evaluation).exact_match is not None
    if has_answers and evaluation.holds(SCORES_FILE):
        base = required(store, EVALUATION.address(address.family, address.dataset, 0))
        return Compared(evaluation, base)
    of_epoch, of_base = (
        required(store, SAMPLE_RESPONSES.address(address.family, address.dataset, epoch))
        for epoch in (address.epoch, 0)
    )
    return Compared(of_epoch, of_base)


def pairs_of(compared: Compared, records: int) -> list[Pair]:
    """Return the answers to the first prompts that both models answered.

    Raises:
        ArtifactError: There is no such prompt.
    """
    new, base = (_answers(artifact) for artifact in compared)
    both = [question for question in new if question in base][:records]
    if not both:
        raise ArtifactError(
            f"{compared.new.name} and {compared.base.name} have no prompt in common that both "
            "answered: materialize both again, so that they are of the same held-out split"
        )
    return [Pair(question, base[question], new[question]) for question in both]


def exchanges_before(store: ArtifactStore, address: ArtifactAddress) -> dict[str, Exchange]:
    """Return what judges of a family were asked before, by the digests of the requests.

    Args:
        store: Where it is looked up.
        address: Of a judgement: its history counts, and the newest one of every other address.
    """
    others = [
        each for each in newest(store, JUDGEMENT, address.family) if each.name != address.name
    ]
    found: dict[str, Exchange] = {}
    for artifact in [*others, *reversed(history(store, address))]:
        found |= exchanges_of(artifact.read_table(EXCHANGES_FILE))
    return found


def _answers(artifact: Artifact) -> dict[Question, str]:
    """Return the answers that an evaluation or sample responses hold, by prompt."""
    if artifact.manifest.kind == SAMPLE_RESPONSES.name:
        responses = json.loads(artifact.read_bytes(_RESPONSES_FILE))
        prompts = [(_prompt(each), each["response"]) for each in responses]
        return {
            Question(f"prompt {number}", prompt.text): response
            for number, (prompt, response) in enumerate(prompts, 1)
        }
    rows = artifact.read_table(SCORES_FILE).to_pylist()
    return {
        Question(str(row["record"]), row["prompt"], row["expected"] or ""): row["answer"]
        for row in rows
        if row["answer"] is not None
    }


def _prompt(response: dict[str, Any]) -> Prompt:
    return Prompt.model_validate(
        {key: value for key, value in response.items() if key != "response"}
    )
