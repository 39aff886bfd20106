"""Options that several commands share, each declared once."""

from collections.abc import Callable
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])
Decorator = Callable[[Command], Command]

model_option = click.option(
    "--model", required=True, metavar="M", help="Model family, as listed by `dolly status`."
)
dataset_option = click.option(
    "--dataset", required=True, metavar="D", help="Dataset, as listed by `dolly datasets list`."
)
epoch_option = click.option(
    "--epoch", required=True, type=int, metavar="N", help="Epoch; 0 is the untrained base model."
)
epoch_or_training_option = click.option(
    "--epoch", type=int, metavar="N", help="Epoch. Default: the whole training."
)
digest_option = click.option(
    "--digest", metavar="D", help="An older publication: its digest, or the beginning of it."
)
host_option = click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on."
)


def epochs_option(*, required: bool) -> Decorator:
    """Declare `--epochs`, which the recipe decides where it is not required."""
    default = "" if required else " Default: all epochs of the recipe."
    return click.option(
        "--epochs",
        required=required,
        metavar="A-B",
        help=f"One epoch, or a range such as 1-3.{default}",
    )


def port_option(default: int) -> Decorator:
    """Declare `--port`."""
    return click.option(
        "--port",
        type=click.IntRange(1, 65535),
        default=default,
        show_default=True,
        help="Port to listen on.",
    )


def json_option(text: str) -> Decorator:
    """Declare `--json`, which prints what a script reads."""
    return click.option("--json", "as_json", is_flag=True, help=text)
