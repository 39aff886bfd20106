"""`dolly rollback`: brings the former model back into a stage."""

import click

from dolly_assets.cli._session import open_session
from dolly_assets.cli._stages import Target, author, reason_option, report, stage_option


@click.command()
@click.argument("model", metavar="MODEL/DATASET")
@stage_option
@reason_option
def rollback(model: str, stage: str, reason: str) -> None:
    """Bring back the model that was in a stage before, and withdraw the present one.

    No rule promotes what was withdrawn; `dolly promote MODEL/DATASET/EPOCH` can.
    """
    from dolly_assets.registry import promotion

    target = Target.parse(model)
    session = open_session()
    placed = promotion.roll_back(
        session.store,
        session.family(target.family).name,
        target.dataset,
        stage=stage,  # pyright: ignore[reportArgumentType] one of the choices
        author=author(reason),
    )
    report(session, target, placed)
