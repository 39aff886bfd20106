"""`dolly doctor`: what is missing before anything can be trained, and what to do about it."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from dolly_assets.core.errors import ConfigurationError, DollyError

if TYPE_CHECKING:
    from dolly_assets.core.environment import Environment
    from dolly_assets.doctor.check_result import CheckResult
    from dolly_assets.family import ModelFamily


@click.command()
@click.option(
    "--kubernetes",
    "in_cluster",
    is_flag=True,
    help="Also check the cluster of DOLLY_KUBERNETES, in which a small pod is run.",
)
def doctor(*, in_cluster: bool) -> None:
    """Check that nothing is missing that training needs.

    One line per check: ok, MISSING or warning with the remedy, or unknown where a check was not
    possible. Exit code 1 if something is missing.
    """
    from dolly_assets.core.environment import Environment

    missing = 0
    for finding in _findings(Environment.read(), in_cluster=in_cluster):
        click.echo(str(finding))
        missing += finding.state == "MISSING"
    if missing:
        click.echo(f"{missing} missing", err=True)
        sys.exit(1)


def _findings(environment: "Environment", *, in_cluster: bool) -> Iterator["CheckResult"]:
    from dolly_assets.core.home import prepare_home
    from dolly_assets.core.text import one_line
    from dolly_assets.doctor.check_result import CheckResult
    from dolly_assets.doctor.machine import check_machine
    from dolly_assets.pipeline.session import Session

    if in_cluster and not environment.kubernetes_file:
        raise ConfigurationError(
            "DOLLY_KUBERNETES is not set: expected a YAML file that describes the cluster"
        )
    prepare_home(environment)
    yield from check_machine(
        environment.home, environment.store_url, trains_here=not environment.kubernetes_file
    )
    families = []
    try:
        families = list(Session(environment).families.values())
        yield CheckResult("ok", "model families", ", ".join(family.name for family in families))
    except DollyError as error:
        yield CheckResult("MISSING", "model families", one_line(error))
    if in_cluster:
        yield from _of_the_cluster(environment, families)


def _of_the_cluster(
    environment: "Environment", families: "list[ModelFamily]"
) -> Iterator["CheckResult"]:
    from kubernetes.client import ApiException

    from dolly_assets.core.text import one_line
    from dolly_assets.doctor.check_result import CheckResult
    from dolly_assets.doctor.cluster import check_cluster
    from dolly_assets.doctor.pod import check_store_from_pod
    from dolly_assets.launchers.kubernetes.api import explanation
    from dolly_assets.launchers.kubernetes.settings import KubernetesSettings

    assert environment.kubernetes_file
    try:
        settings = KubernetesSettings.read(environment.kubernetes_file)
        yield from check_cluster(settings, families)
        yield check_store_from_pod(settings, environment.store_url, click.echo)
    except (DollyError, ApiException) as error:
        text = explanation(error) if isinstance(error, ApiException) else one_line(error)
        yield CheckResult("MISSING", "cluster", text)
