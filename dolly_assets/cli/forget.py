"""`dolly forget`: what holds a record, what learnt it, and the commands that remove both."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from dolly_assets.cli._options import json_option
from dolly_assets.cli._session import open_session

if TYPE_CHECKING:
    from dolly_assets.datasets.catalogue import Catalogue
    from dolly_assets.registry.forgetting import Forgetting
    from dolly_assets.registry.remedies import Remedy
    from dolly_assets.storage import Artifact


@click.command()
@click.argument("record", metavar="DATASET/RECORD")
@click.option(
    "--digest",
    metavar="D",
    help="The publication of the raw dataset that the number is of: the beginning of its digest.",
)
@json_option("Print one object.")
def forget(record: str, digest: str | None, *, as_json: bool) -> None:
    """Show what it takes to forget a record. Nothing is changed.

    RECORD is the number of a record in the raw dataset, counted from 0 as in `dolly lineage`, or
    id:ID with the identifier that its source states, such as demo/4711. Lists what holds the record
    verbatim, which models learnt from it, and the commands that withdraw, retrain and delete.
    """
    from dolly_assets.registry.forgetting import forgetting

    session = open_session()
    found = forgetting(session.store, session.families, session.estimator, record, digest)
    steps = [*_steps(found, session.catalogue)]
    if as_json:
        shown = [{"what": what, "commands": commands} for what, commands in steps]
        click.echo(json.dumps({**found.as_json(), "steps": shown}, indent=1))
        return
    for line in (*_found(found), ""):
        click.echo(line)
    for number, (what, commands) in enumerate(steps, start=1):
        click.echo(f"{number}. {what}")
        for command in commands:
            click.echo(f"     {command}")


def _found(found: "Forgetting") -> Iterator[str]:
    """Yield the lines that state what holds the record and what learnt from it."""
    from dolly_assets.datasets.quality.finding import EXCERPT_CHARACTERS, excerpt
    from dolly_assets.registry.stages import name_of

    said = " → ".join(excerpt(text, end=EXCERPT_CHARACTERS) for text in found.texts)
    yield f"record {found.record} of {found.raw_dataset.name}: {said}"
    yield "held verbatim by"
    for each in found.holders:
        where = "" if each.side == "raw" else f", {each.side}"
        records = ", ".join(map(str, each.records))
        if each.side != "left out":
            yield f"  {each.artifact.name}  {each.artifact.digest[:12]}  record {records}{where}"
    exposure = found.exposure
    yield "learnt by" if exposure.models else "no training in the store learnt from it"
    for each in exposure.staged:
        yield f"  {each.name}  {each.digest[:12]}  {name_of(each)}"
    for name, times in Counter(each.name for each in exposure.models).items():
        if not any(each.name == name for each in exposure.staged):
            yield f"  {name}{f'  {times} publications' if times > 1 else ''}"
    if found.derived:
        kinds = ", ".join(f"{times:,} {kind}" for kind, times in found.derived_kinds.items())
        yield f"made from these, and may quote it: {kinds}"


def _steps(found: "Forgetting", catalogue: "Catalogue") -> Iterator[tuple[str, list[str]]]:
    """Yield what to do, in order, each with its commands."""
    for remedy in found.remedies:
        yield from _withdrawal(remedy)
    if found.exposure.checkpoints:
        yield (
            "withdraw the copies of these models, which no store records: what dolly artifacts "
            "fetch wrote, and what was uploaded or is being served from there",
            [],
        )
    yield from _removal(found, catalogue)
    for remedy in found.remedies:
        yield _retraining(remedy)
    yield _deletion(found)


def _withdrawal(remedy: "Remedy") -> Iterator[tuple[str, list[str]]]:
    model = f"{remedy.family}/{remedy.dataset}"
    for stage, rollbacks in remedy.stages.items():
        if rollbacks:
            command = f"dolly rollback {model} --to {stage} --reason 'forget a record'"
            yield (
                f"withdraw {model} from {stage}: roll back to one that did not learn it",
                [command] * rollbacks,
            )
        elif remedy.replacements:
            best = remedy.replacements[0]
            yield (
                f"withdraw {model} from {stage}: promote epoch {best.epoch}, {best.why}",
                [f"dolly promote {model}/{best.epoch} --to {stage} --reason 'forget a record'"],
            )
        else:
            yield (
                f"stop using {model} in {stage}: no model in the store can take its place, until "
                "it is trained again",
                [],
            )


def _removal(found: "Forgetting", catalogue: "Catalogue") -> Iterator[tuple[str, list[str]]]:
    """Yield how the record leaves the sources of the datasets that hold it now."""
    for holder in found.sources:
        yield _removed_from(holder.dataset, holder.artifact, holder.records, catalogue)


def _removed_from(
    dataset: str, raw: "Artifact", records: tuple[int, ...], catalogue: "Catalogue"
) -> tuple[str, list[str]]:
    known = catalogue.found().usable.get(dataset)
    stated = raw.manifest.attributes.get("source")
    source = known.source if known else str(stated or "its source")
    numbers = ", ".join(map(str, records))
    if source.startswith(("/", "./", "../", "~")):
        return f"delete record {numbers}, counted from 0, from {source}", []
    folder = f"{dataset}-without-{records[0]}"
    fetch = f"dolly artifacts fetch {raw.name} {folder} --digest {raw.digest[:12]}"
    what = (
        f"take dataset {dataset} from a copy of {source} without record {numbers}: delete that row "
        f"of {folder}/data.parquet, counted from 0, before it is added"
    )
    if known and catalogue.origin(dataset) == "declared":
        return f"{what}; in its YAML, name the copy as the source", [fetch]
    licence = known.license if known else str(raw.manifest.attributes.get("license", "unknown"))
    answers = known.answers if known else str(raw.manifest.attributes.get("answers", "open"))
    add = (
        f"dolly datasets add {dataset} {folder}/data.parquet --replace --license {licence} "
        f"--answers {answers}"
    )
    return what, [fetch, add]


def _retraining(remedy: "Remedy") -> tuple[str, list[str]]:
    from dolly_assets.core.text import count, dollars, duration

    plan, model = remedy.retraining, f"{remedy.family}/{remedy.dataset}"
    hours = f", {duration(3600 * plan.hours)}" if plan.hours is not None else ""
    cost = f", {dollars(plan.cost_usd)}" if plan.cost_usd is not None else ""
    unknown = f" (time and cost are not known: {plan.unknown})" if plan.unknown else ""
    others = remedy.replacements
    spared = ""
    if others:
        names = ", ".join(f"{each.epoch} ({each.why})" for each in others)
        spared = f"; not needed where an epoch that is free of it is good enough: {names}"
    later = (
        f"; epochs {plan.epochs + 1}-{plan.trained} stay in the store until they are trained again"
        if plan.trained > plan.epochs
        else ""
    )
    command = (
        f"dolly train --model {remedy.family} --dataset {remedy.dataset} --epochs 1-{plan.epochs}"
    )
    what = f"train {model} without it: {count(plan.epochs, 'epoch')}{hours}{cost}{unknown}"
    return f"{what}{spared}{later}", [command]


def _deletion(found: "Forgetting") -> tuple[str, list[str]]:
    """Return how what is left is deleted: publications that have been replaced by then."""
    names = dict.fromkeys(re.sub(r"/\d+$", "/*", name) for name in found.affected)
    # A state within an epoch is replaced by no other one: its content goes, the record stays.
    states = {each.name for each in found.exposure.states}
    rules = ", ".join(
        f'{{artifacts: "{name}", {"folders: {state: 0}" if name in states else "publications: 1"}}}'
        for name in names
    )
    return (
        "delete what has been replaced by then, and check; backups, versions that the bucket "
        "keeps, and DOLLY_HOME/cache of every machine are yours to delete",
        [
            f"echo 'rules: [{rules}]' > forget.yaml",
            "dolly gc --policy forget.yaml            # lists; with --delete it deletes",
            "dolly gc --policy forget.yaml --delete",
        ],
    )
