"""`dolly chat`: the answers of a checkpoint."""

import click

from dolly_assets.cli._options import dataset_option, epoch_option, model_option
from dolly_assets.cli._session import open_session


@click.command()
@model_option
@dataset_option
@epoch_option
@click.argument("message", required=False)
def chat(model: str, dataset: str, epoch: int, message: str | None) -> None:
    """Chat with a checkpoint.

    With MESSAGE, print its answer and exit.
    """
    from dolly_assets.generation import playground
    from dolly_assets.generation.sample import Prompt
    from dolly_assets.registry.model_folders import fetch
    from dolly_assets.registry.queries import required_checkpoints

    session = open_session()
    family = session.family(model)
    session.catalogue.get(dataset)
    checkpoint = required_checkpoints(session.store, family, dataset, [epoch])[epoch]
    weights, adapter = fetch(session.store, checkpoint)
    if message is None:
        playground.chat(weights, family.prompt_style, adapter=adapter)
        return
    prompt = Prompt(instruction=message)
    click.echo(playground.ask(weights, family.prompt_style, prompt, adapter=adapter))
