"""`dolly rollout`: servers in a cluster restart when another model is in production."""

import click

from dolly_assets.cli._session import open_store
from dolly_assets.cli.artifacts import find_artifact

SHORT = 12


@click.command()
@click.argument("name", metavar="ARTIFACT")
@click.option(
    "--deployment", required=True, help="The Deployment whose pods are replaced, one at a time."
)
@click.option("--namespace", required=True, help="Namespace of the Deployment.")
@click.option(
    "--context",
    help="A context of the kubeconfig. Default: the pod's cluster, else the current one.",
)
def rollout(name: str, deployment: str, namespace: str, context: str | None) -> None:
    """Replace the pods of a Deployment if ARTIFACT has another digest than they serve.

    The digest is written into the annotation `dolly-assets/digest` of the pod template, which makes
    the Deployment replace its pods. If it is there already, nothing happens: run it every minute.
    """
    from dolly_assets.pipeline.rollout import restart_if_changed

    artifact = find_artifact(open_store(), name, None)
    before = restart_if_changed(namespace, deployment, artifact.digest, context)
    if before is None:
        click.echo(f"{deployment} serves {name} {artifact.digest[:SHORT]} already")
        return
    former = f", {before[:SHORT]} before" if before else ""
    click.echo(f"{deployment} restarts with {name} {artifact.digest[:SHORT]}{former}")
