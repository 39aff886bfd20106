"""`dolly artifacts …` and `dolly gc`: what the store holds, bytes in and out, and letting go of what is not needed."""

import sys
from pathlib import Path
from typing import Any, Self

import click

from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage import Artifact, ArtifactStore, Garbage, RetentionPolicy
from dolly_assets.storage import opening as storage
from dolly_assets.storage.flow import in_parallel

PROGRESS_PERCENT = 5  # how often a line is printed when nobody watches


@click.group()
def artifacts() -> None:
    """What the object store holds, and how to get it in and out."""


@artifacts.command("list")
@click.argument("prefix", default="")
def artifacts_list(prefix: str) -> None:
    """List the newest publication of each artifact, or of those whose name is or begins with PREFIX.

    PREFIX is whole parts of a name, such as demo/model_checkpoint.
    """
    store = open_store()
    found = [newest for newest in in_parallel(store.latest, store.names(prefix)) if newest]
    for newest in found:
        manifest = newest.manifest
        click.echo(
            f"{newest.name:<48} {newest.digest[:12]}  {manifest.created_at:%Y-%m-%d %H:%M}  "
            f"{len(manifest.files):>5} files  {_size(newest.size_bytes):>9}"
        )
    if not found:
        click.echo(f"no artifacts{f' below {prefix}' if prefix else ''} in {store.url}", err=True)


@artifacts.command("show")
@click.argument("name")
@click.option("--digest", metavar="D", help="An older publication: its digest, or how it begins.")
def artifacts_show(name: str, digest: str | None) -> None:
    """Show an artifact: what it holds, what it was made from, and its other publications."""
    store = open_store()
    artifact = find_artifact(store, name, digest)
    manifest = artifact.manifest
    click.echo(f"{name}  ({manifest.kind})\nuri      {artifact.uri}\ndigest   {artifact.digest}")
    click.echo(f"made     {manifest.created_at:%Y-%m-%d %H:%M:%S %Z}")
    for title, entries in (
        ("made by", manifest.made_by),
        ("inputs", manifest.inputs),
        ("facts", manifest.attributes),
    ):
        for key, value in entries.items():
            click.echo(f"{title:<8} {key} = {_short(value)}")
    for entry in manifest.files:
        click.echo(f"file     {entry.sha256[:12]}  {_size(entry.size_bytes):>9}  {entry.path}")
    for other in store.history(name):
        if other.manifest.key != manifest.key:
            click.echo(f"other    {other.digest}  {other.manifest.created_at:%Y-%m-%d %H:%M:%S}")


@artifacts.command("fetch")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--digest", metavar="D", help="An older publication: its digest, or how it begins.")
@click.option(
    "--only", metavar="PATH", default="", help="A folder or file of the artifact, such as weights."
)
def artifacts_fetch(name: str, folder: Path, digest: str | None, only: str) -> None:
    """Copy an artifact's files, verified, into FOLDER, which must not exist or be empty."""
    artifact = find_artifact(open_store(), name, digest)
    with _Progress("fetched") as progress:
        artifact.copy_to(folder, only.strip("/"), on_progress=progress.show)
    click.echo(f"{artifact.digest} is in {folder}")


@artifacts.command("push")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--kind", default="files", show_default=True, help="What sort of artifact it is.")
def artifacts_push(name: str, folder: Path, kind: str) -> None:
    """Publish FOLDER, or a single file, as artifact NAME.

    What the store has already is not sent again.
    """
    tree = {folder.name: folder} if folder.is_file() else folder
    with _Progress("published") as progress:
        artifact = open_store().publish(
            name, tree, kind=kind, made_by={"tool": "dolly"}, on_progress=progress.show
        )
    click.echo(f"{artifact.uri}\n{artifact.digest}")


@click.command()
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="YAML file; without it only lost content is removed.",
)
@click.option(
    "--delete/--dry-run", default=False, help="Remove what is listed. The default only lists it."
)
@click.option(
    "--only-instance",
    is_flag=True,
    help="Say that no Dagster instance but this one points at the store. Without it, artifacts stay if the store holds "
    "some by runs that this instance does not know.",
)
def gc(policy: Path | None, *, delete: bool, only_instance: bool) -> None:
    """Remove what a retention policy lets go of, and content that no artifact names.

    What a current materialization in Dagster points at stays published, whatever the policy says.
    """
    from dolly_assets.dagster_support.protected_digests import materialized_digests
    from dolly_assets.pipeline.session import Session

    session = Session(Environment.read())
    rules = RetentionPolicy.read(policy) if policy else RetentionPolicy()
    instance = session.instance
    garbage = session.store.collect_garbage(
        rules,
        protected=materialized_digests(instance),
        is_known_run=(lambda _: True) if only_instance else instance.has_run,
        delete=delete,
    )
    _print_garbage(garbage)


def _print_garbage(garbage: Garbage) -> None:
    verb = "removed" if garbage.removed else "would remove"
    for key in garbage.records:
        click.echo(f"{verb} {key}")
    for key, folder in garbage.folders:
        click.echo(f"{verb} {folder}/ of {key}")
    for key in garbage.foreign:
        click.echo(f"by a run that this Dagster instance does not know: {key}")
    click.echo(
        f"{verb} {len(garbage.records)} publications, {len(garbage.folders)} folders of others, "
        f"{garbage.blobs} blobs of {_size(garbage.blob_bytes)}"
    )
    if not garbage.removed and (garbage.records or garbage.folders or garbage.blobs):
        click.echo(
            f"nothing was removed: run it again with --delete{' --only-instance' if garbage.foreign else ''}"
        )


def find_artifact(store: ArtifactStore, name: str, digest: str | None) -> Artifact:
    """The newest publication of a name, or the one whose digest begins as given; raises ArtifactError."""
    history = store.history(name)
    found = [artifact for artifact in history if artifact.digest.startswith(digest or "")]
    if not history:
        raise ArtifactError(f"{store.url} has no artifact {name}; see: dolly artifacts list")
    if not found:
        raise ArtifactError(f"{name} has no digest {digest}…; see: dolly artifacts show {name}")
    return found[0]


class _Progress:
    """Bytes done, on one line of a terminal; a line every few percent elsewhere."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._next_percent = 0
        self._is_watched = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_watched and self._next_percent:
            click.echo(err=True)

    def show(self, done_bytes: int, total_bytes: int) -> None:
        percent = 100 * done_bytes // max(1, total_bytes)
        if percent < self._next_percent and done_bytes < total_bytes:
            return
        self._next_percent = percent + (1 if self._is_watched else PROGRESS_PERCENT)
        line = f"{self._verb} {_size(done_bytes)} of {_size(total_bytes)} ({percent} %)"
        click.echo(f"\r{line}" if self._is_watched else line, nl=not self._is_watched, err=True)


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _short(value: Any, limit: int = 100) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def open_store() -> ArtifactStore:
    """The store of this process's environment."""
    return storage.open_store(Environment.read())
