"""`dolly push`: a model with its card and licences, to a repository on the Hub."""

import click

from dolly_assets.cli._options import digest_option
from dolly_assets.cli._session import open_store


@click.command()
@click.argument("name", metavar="MODEL")
@click.option(
    "--to", "repository", required=True, metavar="OWNER/NAME", help="The repository on the Hub."
)
@click.option("--public", "is_public", is_flag=True, help="Create it public. Default: private.")
@click.option(
    "--overwrite",
    "may_overwrite",
    is_flag=True,
    help="Replace what others have written into the repository.",
)
@click.option("--yes", "is_agreed", is_flag=True, help="Do not ask about non-commercial licences.")
@digest_option
def push(
    name: str,
    repository: str,
    digest: str | None,
    *,
    is_public: bool,
    may_overwrite: bool,
    is_agreed: bool,
) -> None:
    """Make a repository on the Hub hold MODEL, with its card and licences.

    MODEL is MODEL/DATASET/EPOCH, MODEL/DATASET for the champion, or the name of an artifact. The
    token is that of HF_TOKEN or of hf auth login. What the repository holds already is not sent
    again.
    """
    from dolly_assets.papers.hub import HubRepository
    from dolly_assets.papers.push import check_publishable, push
    from dolly_assets.registry.named import find

    store = open_store()
    model = find(store, name, digest)
    warning = check_publishable(store, model) if is_public else None
    if warning and not is_agreed:
        click.confirm(f"{warning}\nMake it public?", abort=True, err=True)
    done = push(
        store,
        model,
        HubRepository(repository),
        is_public=is_public,
        may_overwrite=may_overwrite,
    )
    what = "sent" if done.sent else "is there already, nothing was sent"
    click.echo(f"{model.name}  {model.digest[:12]}  {what}\n{done.url}")
