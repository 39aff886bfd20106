"""`dolly`: the group of all commands. Errors are one line on stderr and exit code 2."""

import errno
import importlib
import sys
from typing import Any

import click

from dolly_assets import __version__
from dolly_assets.core.errors import DollyError, WorkerStopped

COMMANDS = (
    "artifacts",
    "card",
    "champion",
    "chat",
    "datasets",
    "doctor",
    "export",
    "forget",
    "gc",
    "lineage",
    "models",
    "plan",
    "playground",
    "preview",
    "profile",
    "promote",
    "push",
    "reports",
    "rollback",
    "rollout",
    "serve",
    "sign",
    "status",
    "train",
    "ui",
    "verify",
)
INTERRUPTED = 130  # as shells report Ctrl-C


class _Commands(click.Group):
    """Loads the module of a command when it is needed, and turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return getattr(importlib.import_module(f"dolly_assets.cli.{cmd_name}"), cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DollyError as error:
            from dolly_assets.core.text import one_line
            from dolly_assets.training.loop.stop import STOPPED

            click.echo(f"dolly: {one_line(error)}", err=True)
            ctx.exit(STOPPED if isinstance(error, WorkerStopped) else 2)
        except KeyboardInterrupt:
            click.echo(
                "dolly: stopped; published epochs are kept, run the same command to resume",
                err=True,
            )
            ctx.exit(INTERRUPTED)
        except Exception as error:
            if not (problem := _disk_problem(error)):
                raise
            click.echo(f"dolly: {problem}; published artifacts are kept", err=True)
            ctx.exit(2)


@click.group(cls=_Commands)
@click.version_option(__version__)
def main() -> None:
    """Fine-tune language models as data assets."""


def _disk_problem(error: Exception) -> str | None:
    """Return what to report of a full disk, on which Dagster's database or this process failed."""
    if "sqlalchemy" in sys.modules:
        from sqlalchemy.exc import OperationalError

        if isinstance(error, OperationalError):
            from dolly_assets.core.environment import Environment

            home = Environment.read().dagster_home
            return (
                f"cannot use Dagster's database in {home} ({error.orig}): free some space, "
                "or set DOLLY_HOME"
            )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.filename or 'DOLLY_HOME'}: {error.strerror}: free some space"
    return None
