"""`dolly profile …`: what the devices did in a training, an epoch or any command."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dolly_assets.cli._options import dataset_option, epoch_or_training_option, model_option
from dolly_assets.cli._session import open_store
from dolly_assets.core.errors import ProfileError
from dolly_assets.core.names import epoch_key
from dolly_assets.profiling.command import profile_command

if TYPE_CHECKING:
    from dolly_assets.profiling.analysis.summary import ReportSummary
    from dolly_assets.storage import Artifact, ArtifactStore


@click.group()
def profile() -> None:
    """Show what the devices did in a training, and its cost."""


profile.add_command(profile_command)


@profile.command("show")
@model_option
@dataset_option
@epoch_or_training_option
@click.option("--against", type=int, metavar="N", help="Another epoch, to compare with.")
def show(model: str, dataset: str, epoch: int | None, against: int | None) -> None:
    """Show the verdict and the figures of a training or an epoch.

    With --against, also show what changed since another epoch.
    """
    store = open_store()
    if epoch is None:
        if against is not None:
            raise click.UsageError("--against compares two epochs: add --epoch")
        _show_training(_find(store, model, dataset, None))
        return
    summary = _summary(_find(store, model, dataset, epoch))
    click.echo(f"{summary.title}\n\n{summary.verdict}\n{summary.busy}\n")
    for finding in summary.findings:
        click.echo(f"- {finding.text}\n  {finding.advice}")
    _show_figures(_figures(summary))
    if against is not None:
        _show_changes(_summary(_find(store, model, dataset, against)), summary)


@profile.command("open")
@model_option
@dataset_option
@epoch_or_training_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page to this file, and open no browser.",
)
def open_report(model: str, dataset: str, epoch: int | None, out: Path | None) -> None:
    """Open the report of a training or an epoch in the browser."""
    from dolly_assets.core.environment import Environment
    from dolly_assets.core.home import OWNER_ONLY
    from dolly_assets.profiling.report import REPORT_FILE

    artifact = _find(open_store(), model, dataset, epoch)
    if not artifact.holds(REPORT_FILE):
        raise ProfileError(
            f"{artifact.name} has no {REPORT_FILE}; see: dolly artifacts show {artifact.name}"
        )
    if out is None:
        which = "training" if epoch is None else epoch_key(epoch)
        page = Environment.read().home / "reports" / f"{model}-{dataset}-{which}.html"
        page.parent.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
    else:
        page = out
    page.write_bytes(artifact.read_bytes(REPORT_FILE))
    click.echo(page)
    if out is None and not webbrowser.open(page.resolve().as_uri()):
        click.echo("no browser found: open the file above", err=True)


def _show_figures(figures: list[tuple[str, str]]) -> None:
    from dolly_assets.profiling.analysis.units import UNMEASURED

    for name, value in figures:
        if value != UNMEASURED:
            click.echo(f"{name:<32} {value}")


def _show_changes(before: "ReportSummary", now: "ReportSummary") -> None:
    from dolly_assets.profiling.analysis.compare import compare

    click.echo(f"\n{'against ' + before.title:<38} {'before':>14} {'now':>14} {'change':>9}")
    for line in compare(before, now):
        click.echo(f"{line.name:<38} {line.before:>14} {line.now:>14} {line.change:>9}")


def _figures(summary: "ReportSummary") -> list[tuple[str, str]]:
    from dolly_assets.profiling.analysis.units import dollars, duration, energy, number, share

    steps, cost = summary.steps, summary.cost
    return [
        ("time", duration(summary.duration_seconds)),
        ("steps", number(steps.steps if steps else None)),
        ("mean step", duration(steps.step_seconds if steps else None)),
        ("tokens per second", number(steps.tokens_per_second if steps else None)),
        (
            "tokens per second while stepping",
            number(steps.tokens_per_second_while_stepping if steps else None),
        ),
        ("MFU", share(steps.mfu if steps else None)),
        ("stalled by saving", duration(summary.checkpoints.saving_seconds)),
        ("effective training time", share(summary.effective_ratio)),
        ("GPU-hours", number(cost.gpu_hours)),
        ("energy of the GPUs", energy(cost.energy_joules)),
        ("cost", dollars(cost.usd)),
        ("cost per million labelled tokens", dollars(cost.usd_per_million_labelled)),
    ]


def _find(store: "ArtifactStore", model: str, dataset: str, epoch: int | None) -> "Artifact":
    """Return the profile of an epoch, or that of the whole training; raises ProfileError."""
    from dolly_assets.registry.kinds import GPU_PROFILE, TRAINING_PROFILE
    from dolly_assets.registry.queries import latest

    if epoch is None:
        address, what = TRAINING_PROFILE.address(model, dataset), "a training"
    else:
        address, what = GPU_PROFILE.address(model, dataset, epoch), f"epoch {epoch}"
    found = latest(store, address)
    if found is None:
        raise ProfileError(
            f"{store.url} has no profile of {what} of {model} on {dataset}; see: dolly status"
        )
    return found


def _show_training(artifact: "Artifact") -> None:
    from dolly_assets.profiling.analysis.summary import SUMMARY_FILE
    from dolly_assets.profiling.analysis.training_summary import TrainingSummary, training_figures

    summary = TrainingSummary.model_validate_json(artifact.read_bytes(SUMMARY_FILE))
    click.echo(f"{summary.title}\n\n{summary.verdict}\n{summary.busy}\n")
    _show_figures(training_figures(summary))


def _summary(artifact: "Artifact") -> "ReportSummary":
    from dolly_assets.profiling.analysis.summary import SUMMARY_FILE
    from dolly_assets.registry.profiles import summary_of

    if not artifact.holds(SUMMARY_FILE):
        raise ProfileError(f"{artifact.name} has no {SUMMARY_FILE}: its report could not be built")
    return summary_of(artifact)
