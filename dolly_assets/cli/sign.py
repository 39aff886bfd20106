"""`dolly sign`: an artifact, by a key."""

from pathlib import Path

import click

from dolly_assets.cli._options import digest_option
from dolly_assets.cli._session import open_store


@click.command()
@click.argument("name", metavar="ARTIFACT")
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The private key: an elliptic curve's, in PEM, not encrypted.",
)
@digest_option
def sign(name: str, key: Path, digest: str | None) -> None:
    """Sign the files and the manifest of ARTIFACT.

    ARTIFACT is MODEL/DATASET/EPOCH, MODEL/DATASET for the champion, or the name of an artifact. The
    signature is kept in the store; see dolly verify --signature.
    """
    from dolly_assets.core.environment import Environment
    from dolly_assets.papers import signing
    from dolly_assets.registry.named import find
    from dolly_assets.storage.opening import open_objects

    artifact = find(open_store(), name, digest)
    url = signing.sign(open_objects(Environment.read()), artifact, key)
    click.echo(f"signed {artifact.name}  {artifact.digest}\n{url}")
