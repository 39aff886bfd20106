"""`dolly verify`: published files against manifests, signatures, and epochs trained again."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dolly_assets.cli._options import digest_option
from dolly_assets.cli._session import open_session, open_store

if TYPE_CHECKING:
    from dolly_assets.storage import Artifact


@click.command()
@click.argument("name", metavar="[ARTIFACT]", required=False)
@digest_option
@click.option(
    "--signature",
    "public_key",
    type=click.Path(path_type=Path),
    metavar="PUBLIC_KEY",
    help="Check that ARTIFACT is what the owner of this key has signed.",
)
@click.option(
    "--replay",
    "wants_replay",
    is_flag=True,
    help="Train ARTIFACT, an epoch, again from its inputs, and compare the weights.",
)
def verify(
    name: str | None, digest: str | None, public_key: Path | None, *, wants_replay: bool
) -> None:
    """Check every published file against its manifest, or those of ARTIFACT alone.

    ARTIFACT is MODEL/DATASET/EPOCH, MODEL/DATASET for the champion, or the name of an artifact.
    Exit code 1 if a file is damaged, or if an epoch that is trained again is different.
    """
    from dolly_assets.core.errors import ConfigurationError

    if name is None:
        if public_key or wants_replay or digest:
            raise ConfigurationError(
                "--signature, --replay and --digest need an artifact: name one, such as demo/demo/3"
            )
        _verify_files("")
        return
    from dolly_assets.registry.named import find

    artifact = find(open_store(), name, digest)
    if public_key:
        _verify_signature(artifact, public_key)
    if not wants_replay:  # the signature's bytes may have come from the cache
        _verify_files(artifact.name)
        return
    _replay(artifact)


def _verify_files(prefix: str) -> None:
    from dolly_assets.core.text import count

    checked = damaged = 0
    for finding in open_store().verify(prefix):
        checked += 1
        for damage in finding.damaged:
            damaged += 1
            click.echo(f"damaged: {finding.name} {damage.path}: {damage.reason}")
        if sys.stderr.isatty():
            click.echo(f"\r{checked} artifacts checked", nl=False, err=True)
    click.echo(f"{count(checked, 'artifact')} checked, {count(damaged, 'damaged file')}")
    if damaged:
        sys.exit(1)


def _verify_signature(artifact: "Artifact", public_key: Path) -> None:
    from dolly_assets.core.environment import Environment
    from dolly_assets.core.text import count
    from dolly_assets.papers.signing import verify_signature
    from dolly_assets.storage.opening import open_objects

    verify_signature(open_objects(Environment.read()), artifact, public_key)
    files = count(len(artifact.manifest.files), "file")
    click.echo(f"{artifact.name}  {artifact.digest}: signed by {public_key}, {files} and manifest")


def _replay(artifact: "Artifact") -> None:
    from dolly_assets.pipeline.replay import replay
    from dolly_assets.registry.address import ArtifactAddress

    session = open_session()
    family = session.family(ArtifactAddress.parse(artifact.name).family)

    def log(text: str) -> None:
        click.echo(text, err=True)

    done = replay(session.environment, session.store, family, artifact, log)
    click.echo(done.verdict)
    if done.differing:
        sys.exit(1)
