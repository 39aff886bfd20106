"""`dolly datasets …`: the datasets known by name."""

from pathlib import Path
from typing import Literal

import click

from dolly_assets.cli._session import open_session


@click.group()
def datasets() -> None:
    """List the known datasets, and add new ones."""


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
def datasets_add(
    name: str, source: str, license_id: str, answers: Literal["open", "exact"]
) -> None:
    """Add dataset NAME from SOURCE.

    SOURCE is a file (JSON, JSONL, CSV or Parquet, optionally compressed as .gz), an s3:// URL or a
    Hub id. It is read and checked first.
    """
    from dolly_assets.core.names import check_dataset_name
    from dolly_assets.core.text import count
    from dolly_assets.datasets.config import DatasetConfig
    from dolly_assets.datasets.sources import read_source

    check_dataset_name(name)
    if Path(source).expanduser().exists():
        source = str(Path(source).expanduser().resolve())
    session = open_session()
    rows = read_source(source).table.num_rows
    session.catalogue.add(
        DatasetConfig(name=name, source=source, license=license_id, answers=answers)
    )
    session.register_datasets([name])
    click.echo(f"added {name}: {count(rows, 'example')} from {source}")


@datasets.command("list")
def datasets_list() -> None:
    """List the datasets known by name, and on stderr what the inbox rejects."""
    catalogue = open_session().catalogue
    for dataset in catalogue.all():
        click.echo(f"{dataset.name:<24} {dataset.license:<16} {dataset.source}")
    for name, reason in catalogue.rejected().items():
        click.echo(f"dolly: {name} in the inbox was rejected: {reason}", err=True)
