"""`dolly train`: from a dataset's name to compared epochs."""

import click

from dolly_assets.cli._options import dataset_option, epochs_option, model_option
from dolly_assets.cli._session import open_session


@click.command()
@model_option
@dataset_option
@epochs_option(required=True)
@click.option("--retrain", is_flag=True, help="Retrain epochs that are already in the store.")
def train(model: str, dataset: str, epochs: str, *, retrain: bool) -> None:
    """Fine-tune a model on a dataset, and compare its epochs.

    Whatever is missing or out of date is materialized, from the dataset to the scores, and nothing
    else.
    """
    from dolly_assets.core.names import parse_epochs
    from dolly_assets.core.text import count
    from dolly_assets.pipeline.pipeline import Pipeline

    session = open_session()
    family = session.family(model)
    wanted = parse_epochs(epochs, family.recipe.epochs)
    session.catalogue.get(dataset)
    runs = Pipeline(session, family, dataset).run(list(wanted), retrain=retrain)
    click.echo(
        f"done in {count(runs, 'run')}" if runs else "nothing to do: everything is up to date"
    )
