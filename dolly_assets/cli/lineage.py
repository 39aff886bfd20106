"""`dolly lineage`: which records, code, hyper-parameters and devices made an artifact."""

import json
from typing import Any

import click

from dolly_assets.cli.artifacts import find_artifact, open_store
from dolly_assets.registry.lineage import Lineage, lineage_text


@click.command()
@click.argument("name", metavar="ARTIFACT")
@click.option("--digest", metavar="D", help="An older publication: its digest, or how it begins.")
@click.option(
    "--record",
    type=click.IntRange(min=0),
    metavar="N",
    help="Where this record of the raw dataset went.",
)
@click.option(
    "--step", type=click.IntRange(min=1), metavar="N", help="Which records this optimizer step saw."
)
@click.option("--json", "as_json", is_flag=True, help="One object, for scripts.")
def lineage(
    name: str, digest: str | None, record: int | None, step: int | None, *, as_json: bool
) -> None:
    """Say what made ARTIFACT, such as demo/model_checkpoint/demo/03: data, code, recipe, devices, licences.

    Steps are counted over all epochs, from 1; records as the raw dataset has them, from 0.
    """
    store = open_store()
    found = Lineage(store, find_artifact(store, name, digest))
    answer: Any = None
    if record is not None:
        places = found.places_of(record)
        answer = places if isinstance(places, str) else [vars(place) for place in places]
        text = (
            f"record {record}: {answer}"
            if isinstance(places, str)
            else "\n".join(map(_place_text, places))
        )
    elif step is not None:
        answer = found.records_of(step)
        text = f"step {step}: records {', '.join(map(str, answer))}"
    else:
        answer = found.as_json() if as_json else None
        text = "" if as_json else lineage_text(found)
    click.echo(json.dumps(answer, indent=1) if as_json else text)


def _place_text(place: Any) -> str:
    step = f"step {place.step}" if place.step else "in no whole global batch, so not seen"
    return f"epoch {place.epoch}: row {place.row}, {step}"
