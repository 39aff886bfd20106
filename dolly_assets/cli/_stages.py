"""What the commands on stages share: options, `MODEL/DATASET[/EPOCH]`, the author, the output."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import click

from dolly_assets.core.errors import ConfigurationError

if TYPE_CHECKING:
    from dolly_assets.pipeline.session import Session
    from dolly_assets.registry.promotion import Author
    from dolly_assets.storage import Artifact

STAGE_NAMES = ("candidate", "staging", "production")

stage_option = click.option(
    "--to",
    "stage",
    type=click.Choice(STAGE_NAMES),
    default="production",
    show_default=True,
    help="The stage.",
)
reason_option = click.option(
    "--reason", default="", metavar="TEXT", help="Why, for the history of the stage."
)


@dataclass(frozen=True)
class Target:
    """What a command is about: `demo/demo`, or `demo/demo/3` where an epoch may be named."""

    family: str
    dataset: str
    epoch: int | None = None

    @classmethod
    def parse(cls, text: str, *, may_name_epoch: bool = False) -> Self:
        """Read it.

        Raises:
            ConfigurationError: It has another form.
        """
        family, dataset, epoch, *rest = (*text.split("/"), "", "", "")
        is_epoch = epoch.isascii() and epoch.isdecimal()
        if not family or not dataset or any(rest) or (epoch and not (may_name_epoch and is_epoch)):
            form = "MODEL/DATASET or MODEL/DATASET/EPOCH" if may_name_epoch else "MODEL/DATASET"
            raise ConfigurationError(f"{text!r}: expected {form}, such as demo/demo")
        return cls(family, dataset, int(epoch) if epoch else None)


CHAMPION = "champion"


def exported_target(text: str) -> Target:
    """Read MODEL/DATASET/EPOCH or MODEL/DATASET/champion; without either, it is the champion.

    Raises:
        ConfigurationError: It has another form.
    """
    return Target.parse(text.removesuffix(f"/{CHAMPION}"), may_name_epoch=True)


def author(reason: str) -> "Author":
    """Return the user of this process as who changes a stage."""
    import getpass

    from dolly_assets import __version__
    from dolly_assets.core.code_digest import code_digest
    from dolly_assets.registry.promotion import Author

    made_by = {"tool": "dolly", "dolly_assets": __version__, "code": code_digest()}
    return Author(getpass.getuser(), reason, made_by)


def report(session: "Session", target: Target, placed: "Artifact") -> None:
    """Print a change of a stage, and record one of production in this home's Dagster instance."""
    from dolly_assets.dagster_support.events import materialization_of
    from dolly_assets.registry.stages import STAGES

    if placed.manifest.kind == STAGES["production"].name:
        session.register_datasets([target.dataset])
        session.instance.report_runless_asset_event(materialization_of(placed))
    click.echo(f"{placed.manifest.attributes['reason']}\n{placed.name}  {placed.digest}")
