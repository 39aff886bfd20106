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
@click.option(
    "--losses",
    "wants_losses",
    is_flag=True,
    help="Show the records whose loss stands out over the epochs.",
)
@json_option("Print one object.")
def lineage(
    name: str,
    digest: str | None,
    record: int | None,
    step: int | None,
    *,
    wants_losses: bool,
    as_json: bool,
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
    elif wants_losses:
        answer, text = _losses(found)
    else:
        answer = found.as_json() if as_json else None
        text = "" if as_json else lineage_text(found)
    click.echo(json.dumps(answer, indent=1) if as_json else text)


def _losses(found: "Lineage") -> tuple[object, str]:
    """Return the records whose loss stands out, for scripts and as text."""
    from dolly_assets.registry.record_losses import standing_out

    records = standing_out(found)
    return records.as_json(), records.text()


def _places(found: "Lineage", record: int) -> tuple[object, str]:
    """Return where a record was used, for scripts and as text; or why it was not."""
    from dolly_assets.registry.record_losses import has_losses, losses_behind

    places = found.places_of(record)
    if isinstance(places, str):
        return places, f"record {record}: {places}"
    losses = losses_behind(found).of_record(record) if has_losses(found) else {}
    answer = [{**vars(place), "loss": losses.get(place.epoch)} for place in places]
    return answer, "\n".join(_place_text(place, losses.get(place.epoch)) for place in places)


def _place_text(place: "Place", loss: float | None) -> str:
    step = f"step {place.step}" if place.step else "in no complete global batch, so not used"
    shown = "" if loss is None else f", loss {loss:.4f}"
    return f"epoch {place.epoch}: row {place.row}, {step}{shown}"
