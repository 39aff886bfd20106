"""What a namespace's quota and LimitRange refuse: a family's Jobs would wait for ever.

It knows the objects as Kubernetes writes them in YAML, and makes no requests.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dolly_assets.family import ModelFamily
from dolly_assets.launchers.kubernetes.job import resources_of
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings

Quantities = Mapping[str, str]


def quantity(text: str) -> float:
    """Return the value of a Kubernetes quantity, such as 512Gi."""
    from kubernetes.utils import parse_quantity

    return float(parse_quantity(text))


def over_quota(
    family: ModelFamily, settings: KubernetesSettings, hard: Quantities, at_once: int = 1
) -> str:
    """Return in what a family's trainings exceed a quota; empty if they fit.

    Args:
        family: The family, on all its nodes.
        settings: The deployment's settings.
        hard: The quota.
        at_once: How many trainings there are.
    """
    requests, pods = resources_of(family, settings)["requests"], family.compute.nodes * at_once
    trainings = "" if at_once == 1 else f"in {at_once} trainings "
    for resource, each in requests.items():
        allowed = hard.get(f"requests.{resource}", hard.get(resource))
        if allowed is not None and quantity(each) * pods > quantity(allowed):
            return (
                f"{family.name} requests more {resource} {trainings}on {family.compute.nodes} "
                f"nodes than the allowed {allowed}"
            )
    return ""


def over_limits(
    family: ModelFamily, settings: KubernetesSettings, limits: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield why the limits of a LimitRange refuse a family's pods."""
    given = resources_of(family, settings)
    of_container = [each for each in limits if each["type"] in ("Container", "Pod")]
    limited, requested = _with_defaults(given, of_container)
    for resource, limit in limited.items():
        if quantity(requested.get(resource, "0")) > quantity(limit):
            yield (
                f"{family.name} requests {requested[resource]} of {resource}, more than the "
                f"default limit of {limit}"
            )
    for each in of_container:
        for resource, most in (each.get("max") or {}).items():
            asked = limited.get(resource, requested.get(resource))
            if asked is not None and quantity(asked) > quantity(most):
                yield f"{family.name} asks for {asked} of {resource}, more than the most, {most}"
        for resource, least in (each.get("min") or {}).items():
            asked = requested.get(resource)
            if asked is not None and quantity(asked) < quantity(least):
                yield f"{family.name} asks for {asked} of {resource}, less than the least, {least}"


def _with_defaults(
    given: Mapping[str, Quantities], limits: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return a container's limits and requests with the defaults of a LimitRange."""
    limited = dict(given.get("limits") or {})
    requested = {**limited, **(given.get("requests") or {})}
    for each in limits:
        defaults = each.get("default") or {}
        limited = {**defaults, **limited}
        requested = {**defaults, **(each.get("defaultRequest") or {}), **requested}
    return limited, requested
