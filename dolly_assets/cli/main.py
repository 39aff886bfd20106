"""`dolly`: the session on the command line. Errors are one line on stderr and exit code 2."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from dolly_assets import __version__
from dolly_assets.cli.artifacts import artifacts, gc
from dolly_assets.cli.doctor import doctor
from dolly_assets.cli.lineage import lineage
from dolly_assets.cli.plan import plan
from dolly_assets.cli.profile import profile
from dolly_assets.cli.reports import reports
from dolly_assets.core.environment import PROJECT, Environment
from dolly_assets.core.errors import ConfigurationError, DollyError, WorkerStopped
from dolly_assets.training.loop.stop import STOPPED


class _Commands(click.Group):
    """Turns our errors into one line and exit code 2, and Ctrl-C into one line and 130, as shells do."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DollyError as error:
            click.echo(f"dolly: {' '.join(str(error).split())}", err=True)
            ctx.exit(STOPPED if isinstance(error, WorkerStopped) else 2)
        except KeyboardInterrupt:
            click.echo(
                "dolly: stopped; what was published is kept, and the same command goes on from there",
                err=True,
            )
            ctx.exit(130)
        except Exception as error:
            if not (problem := _disk_problem(error)):
                raise
            click.echo(f"dolly: {problem}; what was published is kept", err=True)
            ctx.exit(2)


@click.group(cls=_Commands)
@click.version_option(__version__)
def main() -> None:
    """Fine-tuned language models as data assets."""


main.add_command(artifacts)
main.add_command(gc)
main.add_command(profile)
main.add_command(reports)
main.add_command(lineage)
main.add_command(plan)
main.add_command(doctor)


@main.command()
@click.option("--model", required=True, metavar="M", help="Model family, as in `dolly status`.")
@click.option("--dataset", required=True, metavar="D", help="Dataset, as in `dolly datasets list`.")
@click.option("--epochs", required=True, metavar="A-B", help="One epoch or a range, such as 1-3.")
@click.option(
    "--retrain", is_flag=True, help="Train also epochs that the store has of this very training."
)
def train(model: str, dataset: str, epochs: str, *, retrain: bool) -> None:
    """Fine-tune a model on a dataset, and score and compare its epochs.

    Whatever is missing on the way is materialized too; what is up to date is left alone.
    """
    from dolly_assets.core.names import parse_epochs
    from dolly_assets.pipeline.pipeline import Pipeline

    session = _platform()
    family = session.family(model)
    wanted = parse_epochs(epochs, family.recipe.epochs)
    session.catalogue.get(dataset)
    runs = Pipeline(session, family, dataset).run(list(wanted), retrain=retrain)
    click.echo(f"done in {runs} runs" if runs else "nothing to do: everything is up to date")


@main.command()
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="A list of objects, one for each family, dataset and epoch.",
)
def status(*, as_json: bool) -> None:
    """What there is: families × datasets × epochs."""
    from dolly_assets.registry.status import status_rows, status_table

    rows = status_rows(_platform())
    click.echo(json.dumps(rows, indent=1) if as_json else status_table(rows))


@main.group()
def datasets() -> None:
    """The datasets that can be trained on."""


@datasets.command("add")
@click.argument("name")
@click.argument("source")
@click.option(
    "--license",
    "license_id",
    default="unknown",
    show_default=True,
    help="SPDX id or the Hub's tag.",
)
@click.option(
    "--answers",
    type=click.Choice(["open", "exact"]),
    default="open",
    show_default=True,
    help="exact: each question has one right answer, so that exact match is scored.",
)
def datasets_add(name: str, source: str, license_id: str, answers: Any) -> None:
    """Add dataset NAME from SOURCE: a file (JSON, JSONL, CSV, Parquet, also .gz), an s3:// URL or a Hub id.

    The source is read and checked first.
    """
    from dolly_assets.core.names import check_dataset_name
    from dolly_assets.datasets.config import DatasetConfig
    from dolly_assets.datasets.sources import read_source

    check_dataset_name(name)
    if Path(source).expanduser().exists():
        source = str(Path(source).expanduser().resolve())
    session = _platform()
    rows = read_source(source).table.num_rows
    session.catalogue.add(
        DatasetConfig(name=name, source=source, license=license_id, answers=answers)
    )
    session.register_datasets([name])
    click.echo(f"added {name}: {rows:,} examples from {source}")


@datasets.command("list")
def datasets_list() -> None:
    """List the datasets known by name."""
    for dataset in _platform().catalogue.all():
        click.echo(f"{dataset.name:<24} {dataset.license:<16} {dataset.source}")


@main.command()
@click.option("--model", required=True, metavar="M", help="Model family.")
@click.option("--dataset", required=True, metavar="D", help="Dataset that it was trained on.")
@click.option(
    "--epoch", required=True, type=int, metavar="N", help="Epoch; 0 is the untrained base."
)
@click.argument("message", required=False)
def chat(model: str, dataset: str, epoch: int, message: str | None) -> None:
    """Talk to a checkpoint; with MESSAGE, answer it and leave."""
    from dolly_assets.generation import playground
    from dolly_assets.generation.sample import Prompt
    from dolly_assets.registry.published import fetch
    from dolly_assets.registry.queries import required_checkpoints

    session = _platform()
    family = session.family(model)
    session.catalogue.get(dataset)
    checkpoint = required_checkpoints(session.store, family, dataset, [epoch])[epoch]
    weights, adapter = fetch(session.store, checkpoint)
    if message is None:
        playground.chat(weights, family.prompt_style, adapter=adapter)
    else:
        click.echo(
            playground.ask(
                weights, family.prompt_style, Prompt(instruction=message), adapter=adapter
            )
        )


@main.command()
@click.option("--model", required=True, metavar="M", help="Model family.")
@click.option("--dataset", required=True, metavar="D", help="Dataset that was tokenized for it.")
@click.option(
    "--row", type=int, metavar="N", help="A row; without one, those of the first records."
)
def preview(model: str, dataset: str, row: int | None) -> None:
    """Show what is trained on: rows of token ids as text, with their examples and labels."""
    from tokenizers import Tokenizer

    from dolly_assets.registry.kinds import BASE_MODEL, TOKENIZED_DATASET
    from dolly_assets.registry.queries import required
    from dolly_assets.tokenization.preview import preview_row

    session = _platform()
    session.family(model)
    tokenized = required(session.store, TOKENIZED_DATASET.address(model, dataset))
    if row is None:
        click.echo(tokenized.read_bytes("preview.md").decode(), nl=False)
        return
    base_model = session.store.get(
        BASE_MODEL.address(model).name, tokenized.manifest.inputs["base_model"]
    )
    tokenizer = Tokenizer.from_file(str(base_model.local_file("weights/tokenizer.json")))
    click.echo(preview_row(tokenized.read_table("train.arrow"), row, tokenizer))


@main.command()
def verify() -> None:
    """Check every published file against its manifest's digests; exit code 1 if any is damaged."""
    checked = damaged = 0
    for finding in _platform().store.verify():
        checked += 1
        for damage in finding.damaged:
            damaged += 1
            click.echo(f"damaged: {finding.name} {damage.path}: {damage.reason}")
        if sys.stderr.isatty():
            click.echo(f"\r{checked} artifacts checked", nl=False, err=True)
    click.echo(f"{checked} artifacts checked, {damaged} damaged files")
    if damaged:
        sys.exit(1)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=3000,
    show_default=True,
    help="Port to listen on.",
)
def ui(host: str, port: int) -> None:
    """Open the Dagster UI and its daemon on this environment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port} ({error.strerror}): stop what runs there, or choose another --port"
            ) from error
    session = _platform()
    session.register_datasets([dataset.name for dataset in session.catalogue.all()])
    workspace = PROJECT / "workspace.yaml"
    target = ["-w", str(workspace)] if workspace.is_file() else ["-m", "dolly_assets.definitions"]
    click.echo(f"http://{host}:{port}")
    if not os.environ.get("DOLLY_REPORTS_URL"):
        os.environ["DOLLY_REPORTS_URL"] = f"http://{host}:{port + 1}"
        # It ends when its input does, which the UI's process holds open.
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        serve = [
            sys.executable,
            "-m",
            "dolly_assets.cli.reports",
            "--host",
            host,
            "--port",
            str(port + 1),
        ]
        subprocess.Popen([*serve, "--end-with-stdin"], stdin=reading)
        os.close(reading)
    command = [sys.executable, "-m", "dagster", "dev", *target, "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)  # noqa: S606 the UI takes this process's place


def _disk_problem(error: Exception) -> str | None:
    """What to say of a full disk that Dagster's database or this process ran into; None of any other error."""
    from sqlalchemy.exc import OperationalError

    if isinstance(error, OperationalError):
        home = Environment.read().dagster_home
        return (
            f"Dagster's database in {home} fails ({error.orig}): free some space, or set DOLLY_HOME"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.filename or 'DOLLY_HOME'}: {error.strerror}: free some space"
    return None


def _platform() -> Any:
    import warnings

    import dagster

    for category in (dagster.BetaWarning, dagster.PreviewWarning):
        warnings.filterwarnings("ignore", category=category)
    from dolly_assets.pipeline.session import Session

    return Session(Environment.read())
