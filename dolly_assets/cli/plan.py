"""`dolly plan`: what a training would need, on the machines of its family or on others."""

import json
from typing import TYPE_CHECKING

import click

from dolly_assets.cli._options import dataset_option, epochs_option, json_option, model_option
from dolly_assets.cli._session import open_session

if TYPE_CHECKING:
    from dolly_assets.registry.estimate import Estimate


@click.command()
@model_option
@dataset_option
@epochs_option(required=False)
@click.option(
    "--gpus", type=click.IntRange(1), metavar="N", help="GPUs per machine, instead of compute.gpus."
)
@click.option(
    "--nodes", type=click.IntRange(1), metavar="N", help="Machines, instead of compute.nodes."
)
@click.option(
    "--device", metavar="NAME", help="Model of GPU, such as H100, instead of compute.device."
)
@json_option("Print all numbers, with their sources.")
def plan(
    model: str,
    dataset: str,
    epochs: str | None,
    gpus: int | None,
    nodes: int | None,
    device: str | None,
    *,
    as_json: bool,
) -> None:
    """Estimate memory, time and cost of a training.

    Nothing is started. The base model and the tokenized dataset must be in the store. Exit code 1
    if the training does not fit.
    """
    from dolly_assets.core.names import parse_epochs
    from dolly_assets.planning.text import table_text
    from dolly_assets.registry.training import Training

    session = open_session()
    family = session.family(model)
    session.catalogue.get(dataset)
    count = len(parse_epochs(epochs, family.recipe.epochs)) if epochs else family.recipe.epochs
    changed = {
        key: value for key, value in (("gpus", gpus), ("nodes", nodes), ("device", device)) if value
    }
    family = family.model_copy(update={"compute": family.compute.model_copy(update=changed)})
    training = Training.newest(session.store, family, dataset)
    result = session.estimator.estimate(session.store, training, epochs=count)
    click.echo(_json(result) if as_json else f"{table_text(result.plan)}\n\n{result.verdict}")
    if result.plan.fits is False:
        raise SystemExit(1)


def _json(result: "Estimate") -> str:
    made = result.plan
    return json.dumps(
        {
            "fits": made.fits,
            "verdict": result.verdict,
            "changes": [change.text for change in result.changes],
            "needed_bytes": made.needed_bytes,
            "available_bytes": made.available_bytes,
            "hours": made.hours,
            **made.model_dump(mode="json"),
        },
        indent=1,
    )
