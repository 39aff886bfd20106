"""`dolly gc`: deleting what a retention policy expires and what nothing refers to."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dolly_assets.cli._session import open_session

if TYPE_CHECKING:
    from dolly_assets.storage import Garbage


@click.command()
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="YAML file of the retention policy; without it only unreferenced content is deleted.",
)
@click.option(
    "--delete/--dry-run", default=False, help="Delete what is listed. The default only lists it."
)
@click.option(
    "--only-instance",
    is_flag=True,
    help="State that no other Dagster instance uses the store. Without it, no artifact is deleted "
    "while the store holds some that were published by runs unknown to this instance.",
)
def gc(policy: Path | None, *, delete: bool, only_instance: bool) -> None:
    """Delete expired artifacts and unreferenced content.

    A retention policy decides which artifacts expire. Artifacts of current materializations in
    Dagster are kept, whatever the policy.
    """
    from dolly_assets.dagster_support.protected_digests import materialized_digests
    from dolly_assets.storage import RetentionPolicy

    session = open_session()
    rules = RetentionPolicy.read(policy) if policy else RetentionPolicy()
    instance = session.instance
    garbage = session.store.collect_garbage(
        rules,
        protected=materialized_digests(instance),
        is_known_run=(lambda _: True) if only_instance else instance.has_run,
        delete=delete,
    )
    _print_garbage(garbage)


def _print_garbage(garbage: "Garbage") -> None:
    from dolly_assets.core.text import count, file_size

    verb = "deleted" if garbage.removed else "would delete"
    for key in garbage.records:
        click.echo(f"{verb} {key}")
    for key, folder in garbage.folders:
        click.echo(f"{verb} {folder}/ of {key}")
    for key in garbage.foreign:
        click.echo(f"published by another Dagster instance: {key}")
    click.echo(
        f"{verb} {count(len(garbage.records), 'publication')}, "
        f"{count(len(garbage.folders), 'folder')} of others, "
        f"{count(garbage.blobs, 'blob')} of {file_size(garbage.blob_bytes)}"
    )
    if not garbage.removed and (garbage.records or garbage.folders or garbage.blobs):
        click.echo("nothing was deleted: run it again with --delete")
    if garbage.foreign:
        click.echo(
            "the Dagster instance here does not know all runs that have published: run this where "
            "dagster.yaml in $DOLLY_HOME/dagster is that of the instance which does; "
            "--only-instance deletes what such an instance still uses"
        )
