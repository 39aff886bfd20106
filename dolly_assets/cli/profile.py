"""`dolly profile …`: what the devices did in a training or an epoch, on the terminal and as a page."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ProfileError
from dolly_assets.core.names import epoch_key
from dolly_assets.profiling.analysis.units import (
    UNMEASURED,
    dollars,
    duration,
    energy,
    number,
    share,
)
from dolly_assets.storage import Artifact, ArtifactStore, open_store

if TYPE_CHECKING:
    from dolly_assets.profiling.analysis.summary import ReportSummary


@click.group()
def profile() -> None:
    """What the devices did in a training or an epoch, and what it cost."""


@profile.command("show")
@click.option("--model", required=True, metavar="M", help="Model family.")
@click.option("--dataset", required=True, metavar="D", help="Dataset that it was trained on.")
@click.option("--epoch", type=int, metavar="N", help="Epoch; the whole training without it.")
@click.option("--against", type=int, metavar="N", help="Another epoch, to compare with.")
def show(model: str, dataset: str, epoch: int | None, against: int | None) -> None:
    """Show the verdict and figures of a training or an epoch; with --against, what changed since another epoch."""
    from dolly_assets.profiling.analysis.compare import compare

    store = _store()
    if epoch is None:
        if against is not None:
            raise click.UsageError("--against N compares epochs: say --epoch too")
        _show_training(_find(store, model, dataset, None))
        return
    summary = _summary(_find(store, model, dataset, epoch))
    click.echo(f"{summary.title}\n\n{summary.verdict}\n{summary.busy}\n")
    for finding in summary.findings:
        click.echo(f"- {finding.text}\n  {finding.advice}")
    click.echo(
        "\n".join(f"{name:<32} {value}" for name, value in _figures(summary) if value != UNMEASURED)
    )
    if against is not None:
        other = _summary(_find(store, model, dataset, against))
        click.echo(f"\n{'against ' + other.title:<38} {'then':>14} {'now':>14} {'change':>9}")
        for line in compare(other, summary):
            click.echo(f"{line.name:<38} {line.before:>14} {line.now:>14} {line.change:>9}")


@profile.command("open")
@click.option("--model", required=True, metavar="M", help="Model family.")
@click.option("--dataset", required=True, metavar="D", help="Dataset that it was trained on.")
@click.option("--epoch", type=int, metavar="N", help="Epoch; the whole training without it.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page there, and open nothing.",
)
def open_report(model: str, dataset: str, epoch: int | None, out: Path | None) -> None:
    """Open the report of a training or an epoch in the browser; with --out, write the page to a file."""
    from dolly_assets.profiling.report.report import REPORT_FILE

    artifact = _find(_store(), model, dataset, epoch)
    if not artifact.holds(REPORT_FILE):
        raise ProfileError(
            f"{artifact.name} has no {REPORT_FILE}; see: dolly artifacts show {artifact.name}"
        )
    if out is None:
        which = "training" if epoch is None else epoch_key(epoch)
        page = Environment.read().home / "reports" / f"{model}-{dataset}-{which}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
    else:
        page = out
    page.write_bytes(artifact.read_bytes(REPORT_FILE))
    click.echo(page)
    if out is None and not webbrowser.open(page.resolve().as_uri()):
        click.echo("no browser was found: open the file above", err=True)


def _figures(summary: "ReportSummary") -> list[tuple[str, str]]:
    steps, cost = summary.steps, summary.cost
    return [
        ("time", duration(summary.duration_seconds)),
        ("steps", number(steps.steps if steps else None)),
        ("mean step", duration(steps.step_seconds if steps else None)),
        ("tokens per second", number(steps.tokens_per_second if steps else None)),
        ("MFU", share(steps.mfu if steps else None)),
        ("stood still for checkpoints", duration(summary.checkpoints.stalled_seconds)),
        ("effective training time", share(summary.effective_ratio)),
        ("GPU-hours", number(cost.gpu_hours)),
        ("energy of the GPUs", energy(cost.energy_joules)),
        ("cost", dollars(cost.usd)),
        ("cost per million labelled tokens", dollars(cost.usd_per_million_labelled)),
    ]


def _store() -> ArtifactStore:
    return open_store(Environment.read())


def _find(store: ArtifactStore, model: str, dataset: str, epoch: int | None) -> Artifact:
    """The profile of an epoch, or that of the whole training."""
    from dolly_assets.registry.kinds import GPU_PROFILE, TRAINING_PROFILE
    from dolly_assets.registry.queries import latest

    if epoch is None:
        found, what = (
            latest(store, TRAINING_PROFILE.address(model, dataset)),
            "a training",
        )
    else:
        found, what = (
            latest(store, GPU_PROFILE.address(model, dataset, epoch)),
            f"epoch {epoch}",
        )
    if found is None:
        raise ProfileError(
            f"{store.url} has no profile of {what} of {model} on {dataset}; see: dolly status"
        )
    return found


def _show_training(artifact: Artifact) -> None:
    from dolly_assets.profiling.analysis.summary import SUMMARY_FILE
    from dolly_assets.profiling.analysis.training_summary import TrainingSummary, training_figures

    summary = TrainingSummary.model_validate_json(artifact.read_bytes(SUMMARY_FILE))
    click.echo(f"{summary.title}\n\n{summary.verdict}\n{summary.busy}\n")
    click.echo(
        "\n".join(
            f"{name:<32} {value}"
            for name, value in training_figures(summary)
            if value != UNMEASURED
        )
    )


def _summary(artifact: Artifact) -> "ReportSummary":
    from dolly_assets.profiling.analysis.summary import SUMMARY_FILE
    from dolly_assets.worker.profiles.profile_publisher import summary_of

    if not artifact.holds(SUMMARY_FILE):
        raise ProfileError(f"{artifact.name} has no {SUMMARY_FILE}: its report could not be built")
    return summary_of(artifact)
