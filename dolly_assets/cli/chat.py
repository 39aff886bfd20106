"""`dolly chat`: a dialogue with a checkpoint."""

from typing import TYPE_CHECKING

import click

from dolly_assets.cli._options import model_option
from dolly_assets.cli._session import open_session

if TYPE_CHECKING:
    from dolly_assets.family import ModelFamily
    from dolly_assets.storage.artifact import Artifact, ArtifactStore


@click.command()
@model_option
@click.option("--dataset", metavar="D", help="Dataset. Default: the one the family was made for.")
@click.option(
    "--epoch",
    type=int,
    metavar="N",
    help="Epoch; 0 is the untrained base model. Default: the last one of the newest training.",
)
@click.option("--system", default="", metavar="TEXT", help="The system prompt.")
@click.option("--context", default="", metavar="TEXT", help="What the first message refers to.")
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    default=0.7,
    show_default=True,
    help="0 always gives the likeliest answer.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Length of the longest answer.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the answers.")
@click.argument("message", required=False)
def chat(
    model: str,
    dataset: str | None,
    epoch: int | None,
    system: str,
    context: str,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    message: str | None,
) -> None:
    """Chat with a checkpoint, in the template that it was trained with.

    With MESSAGE, print its answer and exit. Answers go to standard output, everything else to
    standard error.
    """
    session = open_session()
    family = session.family(model)
    dataset = dataset or family.dataset
    session.catalogue.get(dataset)
    checkpoint = _checkpoint(session.store, family, dataset, epoch)

    import torch

    from dolly_assets.generation import playground
    from dolly_assets.generation.dialogue import Dialogue, Settings
    from dolly_assets.generation.model import load_with_template
    from dolly_assets.registry.model_folders import fetch

    click.echo(f"loading {checkpoint.name} …", err=True)
    weights, adapter, template = fetch(session.store, checkpoint)
    loaded = load_with_template(weights, family.prompt_style, template=template, adapter=adapter)
    settings = Settings(max_new_tokens=max_new_tokens, temperature=temperature)
    dialogue = Dialogue(loaded, settings, system)
    click.echo(playground.describe(dialogue), err=True)
    torch.manual_seed(seed)
    if message is not None:
        click.echo(dialogue.ask(message, context).text)
        return
    suggestions = [prompt.instruction for prompt in family.evaluation.prompts[:2]]
    playground.chat(dialogue, context=context, suggestions=[*filter(None, suggestions)])


def _checkpoint(
    store: "ArtifactStore", family: "ModelFamily", dataset: str, epoch: int | None
) -> "Artifact":
    """Return the checkpoint of an epoch, or the last one of the newest training.

    Raises:
        ArtifactError: It is not in the store.
    """
    from dolly_assets.registry.queries import newest_training, required_checkpoints

    if epoch is None:
        trained = newest_training(store, family, dataset)
        epoch = max(trained, default=family.recipe.epochs)
    return required_checkpoints(store, family, dataset, [epoch])[epoch]
