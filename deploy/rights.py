"""The requests that the code can make to the Kubernetes API, and those that the Roles allow."""

import ast
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from dolly_assets.launchers.kubernetes.rights import HERE, Right, rights_in, rights_of_folder
from dolly_assets.pipeline import rollout


def rights_of_run_launcher() -> set[Right]:
    """Return the rights that dagster-k8s's run launcher needs.

    They are those of its client's methods that it calls, directly or not.
    """
    from dagster_k8s import client, launcher

    methods = {
        node.name: node
        for node in ast.walk(ast.parse(inspect.getsource(client)))
        if isinstance(node, ast.FunctionDef)
    }
    called = set(_attributes(ast.parse(inspect.getsource(launcher)))) & methods.keys()
    while (
        more := {name for each in called for name in _attributes(methods[each])}
        & methods.keys() - called
    ):
        called |= more
    return {right for name in called for right in rights_in(methods[name])}


def _attributes(code: ast.AST) -> Iterator[str]:
    return (node.attr for node in ast.walk(code) if isinstance(node, ast.Attribute))


def rights_of_role(role: dict[str, Any]) -> set[Right]:
    """Return what a Role or ClusterRole allows."""
    return {
        Right(verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def differences(allowed: set[Right], needed: set[Right], role: str) -> Iterable[str]:
    """Yield what a role allows and no code needs, and what code needs and it does not allow."""
    yield from (
        f"role {role} allows an unused right: {right}" for right in sorted(allowed - needed)
    )
    yield from (
        f"role {role} does not allow a right that is used: {right}"
        for right in sorted(needed - allowed)
    )


def needed() -> dict[str, set[Right]]:
    """Return by role the rights that its code needs."""
    return {
        "runs": rights_of_run_launcher(),
        "trainings": rights_of_folder(HERE),
        "rollout": rights_in(ast.parse(inspect.getsource(rollout))),
    }
