"""`dolly datasets …`: the datasets known by name."""

import json
from typing import Literal

import click

from dolly_assets.cli._options import json_option
from dolly_assets.cli._session import open_session


@click.group()
def datasets() -> None:
    """List the known datasets, add new ones, and remove them."""


@datasets.command("add")
@click.argument("name")
@click.argument("source")
@click.option(
    "--license",
    "license_id",
    default="unknown",
    show_default=True,
    help="Licence of the data: an SPDX id or the Hub's tag.",
)
@click.option(
    "--answers",
    type=click.Choice(["open", "exact"]),
    default="open",
    show_default=True,
    help="exact: each question has one right answer, so that exact match is scored.",
)
@click.option("--replace", is_flag=True, help="Replace the dataset that was added under this name.")
def datasets_add(
    name: str,
    source: str,
    license_id: str,
    answers: Literal["open", "exact"],
    *,
    replace: bool,
) -> None:
    """Add dataset NAME from SOURCE.

    Its records are single exchanges (instruction, response) or conversations (messages).
    SOURCE is a file (JSON, JSONL, CSV, TSV, Parquet or Arrow, text also compressed as .gz, .zst or
    .bz2), a folder, an s3:// URL or a Hub id; #NAME behind a folder or Hub id chooses one of its
    configurations. It is read and checked first.
    """
    from dolly_assets.core.text import count
    from dolly_assets.datasets.config import DatasetConfig
    from dolly_assets.datasets.reading import reading_of
    from dolly_assets.datasets.sources import absolute_source, read_source

    session = open_session()
    session.catalogue.check_is_free(name, replace=replace)
    source = absolute_source(source)
    read = read_source(source)
    session.catalogue.add(
        DatasetConfig(name=name, source=source, license=license_id, answers=answers),
        replace=replace,
    )
    session.register_datasets([name])
    click.echo(f"added {name}: {count(read.table.num_rows, 'example')} from {source}")
    for line in reading_of(read):
        click.echo(f"  {line}")


@datasets.command("list")
@json_option("Print a list with one object for each dataset.")
def datasets_list(*, as_json: bool) -> None:
    """List the datasets known by name, and on stderr those that cannot be used."""
    found = open_session().catalogue.found()
    known = found.usable.values()
    if as_json:
        click.echo(json.dumps([dataset.model_dump(mode="json") for dataset in known], indent=1))
        return
    for dataset in known:
        click.echo(f"{dataset.name:<24} {dataset.license:<16} {dataset.source}")
    for name, reason in found.rejected.items():
        click.echo(f"dolly: dataset {name} cannot be used: {reason}", err=True)


@datasets.command("show")
@click.argument("name")
@json_option("Print one object.")
def datasets_show(name: str, *, as_json: bool) -> None:
    """Show dataset NAME, and what was read of it last."""
    from dolly_assets.registry.attributes import RawDatasetAttributes
    from dolly_assets.registry.kinds import RAW_DATASET
    from dolly_assets.registry.queries import latest

    session = open_session()
    dataset = session.catalogue.get(name)
    shown = {**dataset.model_dump(mode="json"), "origin": session.catalogue.origin(name)}
    artifact = latest(session.store, RAW_DATASET.address(dataset=name))
    attributes = RawDatasetAttributes.of(artifact) if artifact else None
    read = attributes.model_dump(mode="json", exclude={"sample_markdown"}) if attributes else None
    if as_json:
        click.echo(json.dumps({**shown, "read": read}, indent=1))
        return
    for key, value in shown.items():
        if value not in (None, "", {}):
            click.echo(f"{key:<12} {value}")
    if not attributes or not artifact:
        click.echo("not read yet: dolly train does it, or materialize raw_dataset in the UI")
        return
    click.echo(f"{'read':<12} {artifact.manifest.created_at:%Y-%m-%d %H:%M}, {artifact.digest}")
    click.echo(f"{'examples':<12} {attributes.rows:,}")
    for line in attributes.reading or ():
        click.echo(f"  {line}")


@datasets.command("check")
@click.argument("name")
def datasets_check(name: str) -> None:
    """Check dataset NAME as its source holds it now, without training on it."""
    from dolly_assets.core.errors import QualityError
    from dolly_assets.datasets.quality.report import judged, refusal
    from dolly_assets.datasets.quality.suite import check_dataset
    from dolly_assets.datasets.sources import read_source

    dataset = open_session().catalogue.get(name)
    verdicts = judged(check_dataset(read_source(dataset.source).table), dataset.checks)
    for verdict in verdicts:
        click.echo(f"{verdict.status:<15} {verdict.sentence}")
    if why := refusal(verdicts, name):
        raise QualityError(why)


@datasets.command("remove")
@click.argument("name")
def datasets_remove(name: str) -> None:
    """Remove dataset NAME from those known by name.

    What was published of it and trained on it stays in the store.
    """
    removed = open_session().catalogue.remove(name)
    click.echo(
        f"removed {name}, which was {removed.source}; what was published of it and trained on it "
        "stays in the store"
    )
