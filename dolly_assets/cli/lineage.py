"""`dolly lineage`: the records, code, recipe and devices that an artifact was made from."""

import json
from typing import TYPE_CHECKING

import click

from dolly_assets.cli._options import digest_option, json_option
from dolly_assets.cli._session import open_store
from dolly_assets.cli.artifacts import find_artifact

if TYPE_CHECKING:
    from dolly_assets.registry.lineage import Lineage, Place


@click.command()
@click.argument("name", metavar="ARTIFACT")
@digest_option
@click.option(
    "--record",
    type=click.IntRange(min=0),
    metavar="N",
    help="Show in which rows and steps this record of the raw dataset was used.",
)
@click.option(
    "--step",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show which records this optimizer step used.",
)
@json_option("Print one object.")
def lineage(
    name: str, digest: str | None, record: int | None, step: int | None, *, as_json: bool
) -> None:
    """Show what an artifact was made from.

    Shows the data, code, recipe, devices and licences of ARTIFACT, such as
    demo/model_checkpoint/demo/03. Steps are counted over all epochs, from 1; records as in the raw
    dataset, from 0.
    """
    from dolly_assets.registry.lineage import Lineage, lineage_text

    store = open_store()
    found = Lineage(store, find_artifact(store, name, digest))
    if record is not None:
        answer, text = _places(found, record)
    elif step is not None:
        answer = found.records_of(step)
        text = f"step {step}: records {', '.join(map(str, answer))}"
    else:
        answer = found.as_json() if as_json else None
        text = "" if as_json else lineage_text(found)
    click.echo(json.dumps(answer, indent=1) if as_json else text)


def _places(found: "Lineage", record: int) -> tuple[object, str]:
    """Return where a record was used, for scripts and as text; or why it was not."""
    places = found.places_of(record)
    if isinstance(places, str):
        return places, f"record {record}: {places}"
    return [vars(place) for place in places], "\n".join(map(_place_text, places))


def _place_text(place: "Place") -> str:
    step = f"step {place.step}" if place.step else "in no complete global batch, so not used"
    return f"epoch {place.epoch}: row {place.row}, {step}"
