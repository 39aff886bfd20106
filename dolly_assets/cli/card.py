"""`dolly card`: the model card and the other documents of a model, from what is recorded."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from dolly_assets.cli._options import digest_option
from dolly_assets.cli._session import open_store

if TYPE_CHECKING:
    from dolly_assets.papers.documents import Format

FORMATS = ("model-card", "data-summary", "ml-bom", "croissant", "licenses")


@click.command()
@click.argument("name", metavar="MODEL")
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="The document. Default: the model card; of a raw dataset, croissant.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A file for the document; of a model without --format, a folder for all documents.",
)
@digest_option
def card(name: str, format_: str | None, to: Path | None, digest: str | None) -> None:
    """Write a model's card, or another document of it.

    MODEL is MODEL/DATASET/EPOCH, MODEL/DATASET for the champion, or the name of an artifact: a
    checkpoint, a model in a stage or a raw dataset, such as raw_dataset/demo.
    """
    from dolly_assets.papers.documents import paper, write_papers, write_text
    from dolly_assets.papers.record import ModelRecord
    from dolly_assets.registry.kinds import RAW_DATASET
    from dolly_assets.registry.named import find

    store = open_store()
    artifact, chosen = find(store, name, digest), cast("Format | None", format_)
    if to is None:
        click.echo(paper(store, artifact, chosen), nl=False)
        return
    has_one = chosen or artifact.manifest.kind == RAW_DATASET.name
    written = (
        [write_text(to, paper(store, artifact, chosen))]
        if has_one
        else write_papers(ModelRecord(store, artifact), to)
    )
    for file in written:
        click.echo(file)
