"""Which requests the code can make of the Kubernetes API, and which the Roles allow."""

import ast
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from dolly_assets.launchers.kubernetes.rights import HERE, Right, rights_in, rights_of_folder


def rights_of_run_launcher() -> set[Right]:
    """The rights that dagster-k8s's run launcher needs: those of its client's methods that it comes to call."""
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
    """What a Role or ClusterRole allows."""
    return {
        Right(verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def differences(allowed: set[Right], needed: set[Right], role: str) -> Iterable[str]:
    """What a role allows that no code needs, and what some code needs that it does not allow."""
    yield from (
        f"role {role} allows what nothing uses: {right}" for right in sorted(allowed - needed)
    )
    yield from (
        f"role {role} does not allow what is used: {right}" for right in sorted(needed - allowed)
    )


def needed() -> dict[str, set[Right]]:
    """By role, the rights that the code which it is for needs."""
    return {"runs": rights_of_run_launcher(), "trainings": rights_of_folder(HERE)}
