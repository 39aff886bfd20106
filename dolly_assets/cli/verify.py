"""`dolly verify`: every published file against its manifest."""

import sys

import click

from dolly_assets.cli._session import open_store


@click.command()
def verify() -> None:
    """Check every published file against its manifest.

    Exit code 1 if a file is damaged.
    """
    from dolly_assets.core.text import count

    checked = damaged = 0
    for finding in open_store().verify():
        checked += 1
        for damage in finding.damaged:
            damaged += 1
            click.echo(f"damaged: {finding.name} {damage.path}: {damage.reason}")
        if sys.stderr.isatty():
            click.echo(f"\r{checked} artifacts checked", nl=False, err=True)
    click.echo(f"{count(checked, 'artifact')} checked, {count(damaged, 'damaged file')}")
    if damaged:
        sys.exit(1)
