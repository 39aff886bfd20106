"""What there is, for people and for scripts: families × datasets × epochs, read from the store."""

from typing import Any

from dolly_assets.family import ModelFamily
from dolly_assets.naming import epoch_key
from dolly_assets.platform import Platform
from dolly_assets.storage.artifact import artifact_name


def status_rows(platform: Platform) -> list[dict[str, Any]]:
    """One object per family, dataset and epoch; values are null where nothing was published or measured.

    Keys: family, dataset, epoch, digest, weights_sha256, heldout_loss, exact_match, tokens_per_second, published_at.
    """
    return [
        _row(platform, family, dataset, epoch)
        for family in sorted(platform.families.values(), key=lambda item: item.name)
        for dataset in _datasets(platform, family)
        for epoch in range(family.recipe.epochs + 1)
    ]


def status_table(rows: list[dict[str, Any]]) -> str:
    """The published epochs as text, and for the rest how much is missing."""
    numbers = f"{'held-out loss':>14} {'exact match':>12} {'tokens/s':>10}"
    lines = [f"{'family':<16} {'dataset':<24} {'epoch':>5} {numbers}  digest"]
    for row in rows:
        if row["digest"]:
            numbers = [
                (row["heldout_loss"], ".4f", 14),
                (row["exact_match"], ".3f", 12),
                (row["tokens_per_second"], ",.0f", 10),
            ]
            cells = " ".join(
                ("–" if value is None else format(value, form)).rjust(width) for value, form, width in numbers
            )
            lines.append(f"{row['family']:<16} {row['dataset']:<24} {row['epoch']:>5} {cells}  {row['digest'][:12]}")
    pairs = dict.fromkeys((row["family"], row["dataset"]) for row in rows)
    published = {(row["family"], row["dataset"]) for row in rows if row["digest"]}
    lines += [
        f"{family:<16} {dataset:<24} not trained yet" for family, dataset in pairs if (family, dataset) not in published
    ]
    return "\n".join(lines)


def _datasets(platform: Platform, family: ModelFamily) -> list[str]:
    """The family's own dataset, and those that it was trained on."""
    prefix = artifact_name([family.name, "model_checkpoint"])
    trained = {name.split("/")[2] for name in platform.store.names(prefix)}
    return sorted({family.dataset, *trained})


def _row(platform: Platform, family: ModelFamily, dataset: str, epoch: int) -> dict[str, Any]:
    def newest(asset: str) -> Any:
        return platform.store.latest(artifact_name([family.name, asset], dataset, epoch_key(epoch)))

    checkpoint, evaluation = newest("model_checkpoint"), newest("evaluation")
    trained = checkpoint.manifest.attributes if checkpoint else {}
    is_of_checkpoint = checkpoint and evaluation and evaluation.manifest.inputs["model_checkpoint"] == checkpoint.digest
    scored = evaluation.manifest.attributes if is_of_checkpoint else {}
    return {
        "family": family.name,
        "dataset": dataset,
        "epoch": epoch,
        "digest": checkpoint.digest if checkpoint else None,
        "weights_sha256": trained.get("weights_sha256"),
        "heldout_loss": scored.get("heldout_loss"),
        "exact_match": scored.get("exact_match"),
        "tokens_per_second": trained.get("tokens_per_second"),
        "published_at": checkpoint.manifest.created_at.isoformat() if checkpoint else None,
    }
