"""`dolly promote`: brings a model into a stage."""

import click

from dolly_assets.cli._options import reason_option
from dolly_assets.cli._session import open_session
from dolly_assets.cli._stages import STAGE_NAMES, Target, author, show_in_dagster


@click.command()
@click.argument("model", metavar="MODEL/DATASET[/EPOCH]")
@click.option(
    "--to",
    type=click.Choice(STAGE_NAMES),
    default="production",
    show_default=True,
    help="The stage.",
)
@reason_option
def promote(model: str, to: str, reason: str) -> None:
    """Promote a model to a stage; production is the champion.

    Without EPOCH, the model of the stage below is promoted: the one in staging, else the candidate,
    which is what the family's rule found better. The gates of the rule apply, its scores do not.
    """
    from dolly_assets.registry import promotion

    target = Target.parse(model, may_name_epoch=True)
    session = open_session()
    placed = promotion.promote(
        session.store,
        session.family(target.family),
        target.dataset,
        to=to,  # pyright: ignore[reportArgumentType] one of the choices
        author=author(reason),
        epoch=target.epoch,
    )
    show_in_dagster(session, target, placed)
    click.echo(f"{placed.manifest.attributes['reason']}\n{placed.name}  {placed.digest}")
