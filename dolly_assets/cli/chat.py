"""`dolly chat`: a dialogue with a checkpoint, or with the model in a stage."""

from typing import TYPE_CHECKING

import click

from dolly_assets.cli._options import model_option
from dolly_assets.cli._session import open_session
from dolly_assets.cli._stages import STAGE_NAMES
from dolly_assets.core.errors import ConfigurationError

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
    help="Epoch of the newest training; 0 is the untrained base model.",
)
@click.option(
    "--stage",
    type=click.Choice(STAGE_NAMES),
    help="The model in this stage. Default: production, once an epoch is there; else the last "
    "epoch of the newest training.",
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
    stage: str | None,
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
    if epoch is not None and stage:
        raise ConfigurationError("--epoch and --stage name two models: leave one of them out")
    session = open_session()
    family = session.family(model)
    dataset = dataset or family.dataset
    session.catalogue.get(dataset)
    checkpoint = _checkpoint(session.store, family, dataset, epoch, stage)

    from dolly_assets.generation import terminal
    from dolly_assets.generation.dialogue import Dialogue, Settings
    from dolly_assets.generation.model import load_with_template
    from dolly_assets.registry.model_folders import fetch
    from dolly_assets.registry.stages import name_of

    click.echo(f"loading {name_of(checkpoint)}, {checkpoint.name} …", err=True)
    weights, adapter, template = fetch(session.store, checkpoint)
    loaded = load_with_template(weights, family.prompt_style, template=template, adapter=adapter)
    settings = Settings(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    dialogue = Dialogue(loaded, settings, system)
    click.echo(terminal.describe(dialogue), err=True)
    if message is not None:
        click.echo(dialogue.ask(message, context).text)
        return
    suggestions = [prompt.instruction for prompt in family.evaluation.prompts[:2]]
    terminal.chat(dialogue, context=context, suggestions=[*filter(None, suggestions)])


def _checkpoint(
    store: "ArtifactStore",
    family: "ModelFamily",
    dataset: str,
    epoch: int | None,
    stage: str | None,
) -> "Artifact":
    """Return the checkpoint of an epoch, the model in a stage, or what is meant by neither.

    Raises:
        ArtifactError: It is not in the store.
    """
    from dolly_assets.registry.queries import newest_training, required, required_checkpoints
    from dolly_assets.registry.stages import STAGES

    if stage:
        return required(store, STAGES[stage].address(family.name, dataset))  # pyright: ignore[reportArgumentType] one of the choices
    champion = store.latest(STAGES["production"].address(family.name, dataset).name)
    if epoch is None and champion and champion.manifest.attributes.get("epoch"):
        return champion
    if epoch is None:
        trained = newest_training(store, family, dataset)
        epoch = max(trained, default=family.recipe.epochs)
    return required_checkpoints(store, family, dataset, [epoch])[epoch]
