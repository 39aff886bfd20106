"""`dolly champion`: the models in stages, their history, and the table behind the last verdict."""

import json
from typing import TYPE_CHECKING, Any

import click

from dolly_assets.cli._options import json_option
from dolly_assets.cli._session import open_store
from dolly_assets.cli._stages import Target

if TYPE_CHECKING:
    from dolly_assets.storage import Artifact, ArtifactStore


@click.command()
@click.argument("model", metavar="MODEL/DATASET")
@json_option("Print one object: the history of each stage, newest first, and the last verdict.")
def champion(model: str, *, as_json: bool) -> None:
    """Show which models are in candidate, staging and production, and how they came there."""
    from dolly_assets.core.errors import ArtifactError
    from dolly_assets.registry.stages import STAGES, changes, model_in

    target, store = Target.parse(model), open_store()
    of = (target.family, target.dataset)
    stages = {stage: [_change(each) for each in changes(store, *of, stage)] for stage in STAGES}
    if not any(stages.values()):
        raise ArtifactError(
            f"{model} has no model in a stage: run dolly train --model {target.family} --dataset "
            f"{target.dataset}, or dolly promote {model}/EPOCH"
        )
    newest = model_in(store, *of, "production")
    verdict = _verdict(store, newest) if newest else None
    if as_json:
        click.echo(json.dumps({"stages": stages, "verdict": verdict}, indent=1))
        return
    for stage in reversed(stages):
        _show(stage, stages[stage])
    if verdict:
        click.echo(f"\nlast contest: {verdict['reason']}")
        _show_table(verdict)


def _change(model: "Artifact") -> dict[str, Any]:
    """Return how a model came into its stage."""
    from dolly_assets.registry.attributes import ChampionAttributes

    stated = ChampionAttributes.of(model)
    return {
        "at": f"{model.manifest.created_at:%Y-%m-%d %H:%M:%S}",
        "epoch": stated.epoch,
        "checkpoint": stated.checkpoint,
        "digest": model.digest,
        "verdict": stated.verdict,
        "by": stated.decided_by or "rule",
        "reason": stated.reason,
        "exact_match": stated.exact_match,
        "held_out_loss": stated.held_out_loss,
    }


def _verdict(store: "ArtifactStore", newest: "Artifact") -> dict[str, Any] | None:
    """Return the newest verdict of a rule with its table, if one was kept."""
    from dolly_assets.registry.kinds import DECISION_FILE

    found = [newest] if newest.holds(DECISION_FILE) else store.history(newest.name)
    kept = next((each for each in found if each.holds(DECISION_FILE)), None)
    return json.loads(kept.read_bytes(DECISION_FILE)) if kept else None


def _show(stage: str, history: list[dict[str, Any]]) -> None:
    if not history:
        click.echo(f"{stage:<11} –")
    for place, change in enumerate(history):
        name = f"epoch {change['epoch']}" if change["epoch"] else "base model"
        click.echo(
            f"{stage if place == 0 else 'before':<11} {name:<10} {change['checkpoint'][:12]}  "
            f"{change['at']}  {change['reason'] or change['by']}"
        )


def _show_table(verdict: dict[str, Any]) -> None:
    from dolly_assets.core.text import with_interval
    from dolly_assets.scoring.rule import TITLES

    title = TITLES[verdict["score"]]
    click.echo(f"{'model':<16} {title + ' (95 %)':>26} {'gain (95 %)':>29} {'p':>7}")
    for line in verdict["alternatives"]:
        score = with_interval(line["score"], line["interval"], ".4f")
        gain = with_interval(line["gain"], line["gain_interval"], "+.4f")
        p_value = "–" if line["p_value"] is None else f"{line['p_value']:.4f}"
        note = f"  {line['note']}" if line["note"] else ""
        click.echo(f"{line['name']:<16} {score:>26} {gain:>29} {p_value:>7}{note}")
