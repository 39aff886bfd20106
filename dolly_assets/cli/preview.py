"""`dolly preview`: the rows that a training sees."""

import click

from dolly_assets.cli._options import dataset_option, model_option
from dolly_assets.cli._session import open_session


@click.command()
@model_option
@dataset_option
@click.option(
    "--row", type=int, metavar="N", help="Row to show. Default: the rows of the first records."
)
def preview(model: str, dataset: str, row: int | None) -> None:
    """Show training rows as text, with their examples and labels."""
    from tokenizers import Tokenizer

    from dolly_assets.registry.inputs import required_digest
    from dolly_assets.registry.kinds import BASE_MODEL, TOKENIZED_DATASET
    from dolly_assets.registry.queries import required
    from dolly_assets.tokenization.preview import preview_row
    from dolly_assets.tokenization.tokenized_dataset import TRAIN_FILE

    session = open_session()
    session.family(model)
    tokenized = required(session.store, TOKENIZED_DATASET.address(model, dataset))
    if row is None:
        click.echo(tokenized.read_bytes("preview.md").decode(), nl=False)
        return
    base_model = session.store.get(
        BASE_MODEL.address(model).name, required_digest(tokenized, BASE_MODEL)
    )
    tokenizer = Tokenizer.from_file(str(base_model.local_file("weights/tokenizer.json")))
    click.echo(preview_row(tokenized.read_table(TRAIN_FILE), row, tokenizer))
