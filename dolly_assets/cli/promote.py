"""`dolly promote`: brings a model into a stage."""

import click

from dolly_assets.cli._session import open_session
from dolly_assets.cli._stages import Target, author, reason_option, report, stage_option


@click.command()
@click.argument("model", metavar="MODEL/DATASET[/EPOCH]")
@stage_option
@reason_option
def promote(model: str, stage: str, reason: str) -> None:
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
        to=stage,  # pyright: ignore[reportArgumentType] one of the choices
        author=author(reason),
        epoch=target.epoch,
    )
    report(session, target, placed)
