"""`dolly status`: the epochs in the store, by family and dataset."""

import json

import click

from dolly_assets.cli._options import json_option
from dolly_assets.cli._session import open_session


@click.command()
@json_option("Print a list with one object for each family, dataset and epoch.")
def status(*, as_json: bool) -> None:
    """List epochs by family and dataset."""
    from dolly_assets.registry.status import status_rows, status_table

    session = open_session()
    datasets = [dataset.name for dataset in session.catalogue.all()]
    rows = status_rows(session.store, session.families.values(), datasets)
    click.echo(json.dumps(rows, indent=1) if as_json else status_table(rows))
