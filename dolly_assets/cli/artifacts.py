"""`dolly artifacts …`: the inventory of the store, and artifacts in and out."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click

from dolly_assets.cli._options import digest_option
from dolly_assets.cli._session import open_store
from dolly_assets.core.errors import ArtifactError, ConfigurationError

if TYPE_CHECKING:
    from dolly_assets.storage import Artifact, ArtifactStore

PROGRESS_PERCENT = 5  # how often a line is printed where stderr is not a terminal
LONGEST_VALUE = 100


@click.group()
def artifacts() -> None:
    """List, show, fetch and push the artifacts of the object store."""


@artifacts.command("list")
@click.argument("prefix", default="")
def artifacts_list(prefix: str) -> None:
    """List artifacts by name.

    The newest publication of each is listed, or of those below PREFIX, which consists of whole
    parts of a name, such as demo/model_checkpoint.
    """
    from dolly_assets.core.text import file_size

    store, newest = open_store(), None
    for newest in store.newest(prefix):
        manifest = newest.manifest
        click.echo(
            f"{newest.name:<48} {newest.digest[:12]}  {manifest.created_at:%Y-%m-%d %H:%M}  "
            f"{len(manifest.files):>5} files  {file_size(newest.size_bytes):>9}"
        )
    if newest is None:
        click.echo(f"no artifacts{f' below {prefix}' if prefix else ''} in {store.url}", err=True)


@artifacts.command("show")
@click.argument("name")
@digest_option
def artifacts_show(name: str, digest: str | None) -> None:
    """Show files, inputs and attributes of an artifact.

    Its other publications are listed too.
    """
    from dolly_assets.core.text import file_size

    store = open_store()
    artifact = find_artifact(store, name, digest)
    manifest = artifact.manifest
    click.echo(f"{name}  ({manifest.kind})")
    _show("uri", artifact.uri)
    _show("digest", artifact.digest)
    _show("created", f"{manifest.created_at:%Y-%m-%d %H:%M:%S %Z}")
    for title, entries in (
        ("made by", manifest.made_by),
        ("input", manifest.inputs),
        ("attribute", manifest.attributes),
    ):
        for key, value in entries.items():
            _show(title, f"{key} = {_short(value)}")
    for entry in manifest.files:
        title = "beside" if entry.is_description else "file"
        _show(title, f"{entry.sha256[:12]}  {file_size(entry.size_bytes):>9}  {entry.path}")
    for other in store.history(name):
        if other.manifest.key != manifest.key:
            _show("other", f"{other.digest}  {other.manifest.created_at:%Y-%m-%d %H:%M:%S}")


@artifacts.command("fetch")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@digest_option
@click.option(
    "--only", metavar="PATH", default="", help="A folder or file of the artifact, such as weights."
)
@click.option(
    "--signature",
    "wants_signature",
    is_flag=True,
    help="Also write model.sig and manifest.json, with which others can check the signature.",
)
def artifacts_fetch(
    name: str, folder: Path, digest: str | None, only: str, *, wants_signature: bool
) -> None:
    """Copy an artifact's files into FOLDER, verified.

    FOLDER must be new or empty.
    """
    if wants_signature and only:
        raise ConfigurationError("--signature covers the whole artifact: leave out --only")
    artifact = find_artifact(open_store(), name, digest)
    with _Progress("fetched") as progress:
        artifact.copy_to(folder, only.strip("/"), on_progress=progress.show)
    if wants_signature:
        from dolly_assets.core.environment import Environment
        from dolly_assets.papers.signing import write_signature
        from dolly_assets.storage.opening import open_objects

        write_signature(open_objects(Environment.read()), artifact, folder)
    click.echo(f"{artifact.digest} is in {folder}")


@artifacts.command("push")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--kind", default="files", show_default=True, help="Kind of the artifact.")
def artifacts_push(name: str, folder: Path, kind: str) -> None:
    """Publish a folder or a file as artifact NAME.

    Content that the store already holds is not sent again.
    """
    tree = {folder.name: folder} if folder.is_file() else folder
    with _Progress("published") as progress:
        artifact = open_store().publish(
            name, tree, kind=kind, made_by={"tool": "dolly"}, on_progress=progress.show
        )
    click.echo(f"{artifact.uri}\n{artifact.digest}")


def find_artifact(store: "ArtifactStore", name: str, digest: str | None) -> "Artifact":
    """Return the newest publication of a name, or the newest whose digest begins as given.

    Raises:
        ArtifactError: There is none.
    """
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
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal and self._next_percent:
            click.echo(err=True)

    def show(self, done_bytes: int, total_bytes: int) -> None:
        from dolly_assets.core.text import file_size

        percent = 100 * done_bytes // max(1, total_bytes)
        if percent < self._next_percent and done_bytes < total_bytes:
            return
        self._next_percent = percent + (1 if self._is_terminal else PROGRESS_PERCENT)
        line = f"{self._verb} {file_size(done_bytes)} of {file_size(total_bytes)} ({percent} %)"
        click.echo(f"\r{line}" if self._is_terminal else line, nl=not self._is_terminal, err=True)


def _show(title: str, value: str) -> None:
    click.echo(f"{title:<10} {value}")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
