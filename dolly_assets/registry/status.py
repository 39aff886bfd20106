"""The inventory of epochs, read from the store: families × datasets × epochs.

It knows the store and the families; where they are declared is the caller's to know.
"""

from collections.abc import Iterable
from typing import Any

from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import (
    CheckpointAttributes,
    EvaluationAttributes,
    SuiteScoresAttributes,
)
from dolly_assets.registry.inputs import is_made_from
from dolly_assets.registry.kinds import (
    EVALUATION,
    MODEL_CHECKPOINT,
    SUITE_SCORES,
    suite_settings,
)
from dolly_assets.registry.queries import newest
from dolly_assets.storage.artifact import Artifact, ArtifactStore

ROW_KEYS = (
    "family",
    "dataset",
    "epoch",
    "training",
    "digest",
    "weights_sha256",
    "held_out_loss",
    "heldout_loss",  # the former name of held_out_loss, for one version
    "exact_match",
    "tokens_per_second",
    "published_at",
    "suites",
)


def status_rows(
    store: ArtifactStore, families: Iterable[ModelFamily], datasets: Iterable[str]
) -> list[dict[str, Any]]:
    """Return one object with ROW_KEYS per family, dataset and epoch.

    Values are null where nothing was published or measured. `training` is the digest of what
    determines the weights: epochs in which it differs don't belong to one training.

    Args:
        store: Where epochs are looked up.
        families: The families to list.
        datasets: The datasets to list; those in the store that are not among them are listed too.
    """
    known = set(datasets)
    return [
        row
        for family in sorted(families, key=lambda item: item.name)
        for row in _rows(store, family, known)
    ]


def status_table(rows: list[dict[str, Any]]) -> str:
    """Return the published epochs as text, and what each family has not been trained on."""
    numbers = f"{'held-out loss':>14} {'exact match':>12} {'tokens/s':>10}"
    header = (
        f"{'family':<16} {'dataset':<24} {'epoch':>5} {numbers}  {'training':<12}  {'digest':<12}"
    )
    suites = "  suites" if any(row["suites"] for row in rows) else ""
    lines = [f"{header}{suites}".rstrip()]
    lines += [_line(row) for row in rows if row["digest"]]
    trained = {(row["family"], row["dataset"]) for row in rows if row["digest"]}
    for family in dict.fromkeys(row["family"] for row in rows):
        datasets = dict.fromkeys(row["dataset"] for row in rows if row["family"] == family)
        if left := [dataset for dataset in datasets if (family, dataset) not in trained]:
            lines.append(f"{family:<16} not trained yet on {', '.join(left)}")
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    numbers = [
        (row["held_out_loss"], ".4f", 14),
        (row["exact_match"], ".3f", 12),
        (row["tokens_per_second"], ",.0f", 10),
    ]
    cells = " ".join(
        ("–" if value is None else format(value, form)).rjust(width)
        for value, form, width in numbers
    )
    digests = f"{row['training'][:12]:<12}  {row['digest'][:12]}"
    line = f"{row['family']:<16} {row['dataset']:<24} {row['epoch']:>5} {cells}  {digests}"
    suites = ", ".join(
        f"{name} {_suite_text(each)}" for name, each in (row["suites"] or {}).items()
    )
    return f"{line}  {suites}".rstrip()


def _suite_text(score: dict[str, float | None]) -> str:
    value, bits = score["score"], score["bits_per_byte"]
    parts = [*([f"{value:.3f}"] if value is not None else [])]
    parts += [f"{bits:.3f} bits/byte"] if bits is not None else []
    return " ".join(parts) or "–"


def _rows(store: ArtifactStore, family: ModelFamily, datasets: set[str]) -> list[dict[str, Any]]:
    """Return a family's rows."""
    kinds = [MODEL_CHECKPOINT, EVALUATION, *([SUITE_SCORES] if family.evaluation.suites else [])]
    found = {item.name: item for kind in kinds for item in newest(store, kind, family.name)}
    trained = {ArtifactAddress.parse(name).dataset for name in found}
    return [
        _row(found, family, dataset, epoch)
        for dataset in sorted(datasets | trained)
        for epoch in range(family.recipe.epochs + 1)
    ]


def _row(
    found: dict[str, Artifact], family: ModelFamily, dataset: str, epoch: int
) -> dict[str, Any]:
    about = {"family": family.name, "dataset": dataset, "epoch": epoch}
    checkpoint, evaluation, suite_scores = (
        found.get(kind.address(family.name, dataset, epoch).name)
        for kind in (MODEL_CHECKPOINT, EVALUATION, SUITE_SCORES)
    )
    if checkpoint is None:
        return {**dict.fromkeys(ROW_KEYS), **about}
    trained = CheckpointAttributes.of(checkpoint)
    is_scored = evaluation and is_made_from(evaluation, checkpoint)
    scores = EvaluationAttributes.of(evaluation) if evaluation and is_scored else None
    held_out_loss = scores.held_out_loss if scores else None
    return {
        **about,
        "training": trained.training,
        "digest": checkpoint.digest,
        "weights_sha256": trained.weights_sha256,
        "held_out_loss": held_out_loss,
        "heldout_loss": held_out_loss,
        "exact_match": scores.exact_match if scores else None,
        "tokens_per_second": trained.tokens_per_second,
        "published_at": checkpoint.manifest.created_at.isoformat(),
        "suites": _suites(family, checkpoint, suite_scores),
    }


def _suites(
    family: ModelFamily, checkpoint: Artifact, scores: Artifact | None
) -> dict[str, dict[str, float | None]] | None:
    """Return what a checkpoint scored on its family's suites as they are now."""
    if scores is None or not is_made_from(scores, checkpoint):
        return None
    return {
        name: {"score": score.score, "bits_per_byte": score.bits_per_byte}
        for name, score in SuiteScoresAttributes.of(scores).suites.items()
        if name in family.evaluation.suites and score.settings == suite_settings(family, name)
    }
