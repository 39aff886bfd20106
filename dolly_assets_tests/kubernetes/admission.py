"""What the stand-in's API server and Job controller read from a pod's spec and status.

It changes nothing.
"""

from dolly_assets_tests.kubernetes.objects import Object

# What the API server gives to every pod.
TOLERATIONS = [
    {
        "key": f"node.kubernetes.io/{what}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }
    for what in ("not-ready", "unreachable")
]


def over_limit(template: Object, defaults: dict[str, str]) -> str:
    """Which request of a pod exceeds its limit; empty if none does."""
    from kubernetes.utils import parse_quantity

    resources = template["spec"]["containers"][0].get("resources", {})
    limits = {**defaults, **resources.get("limits", {})}
    for name, asked in resources.get("requests", {}).items():
        if name in limits and parse_quantity(asked) > parse_quantity(limits[name]):
            return (
                f'Invalid value: "{asked}": must be less than or equal to {name} limit of '
                f"{limits[name]}"
            )
    return ""


def action_for(job: Object, pod: Object) -> tuple[str, str]:
    """What the Job's podFailurePolicy prescribes for a pod that failed, and why."""
    status = pod["status"]
    conditions = {
        item["type"] for item in status.get("conditions", []) if item.get("status") == "True"
    }
    [container] = status.get("containerStatuses") or [{}]
    ended = (container.get("state") or {}).get("terminated") or {}
    for number, rule in enumerate(job["spec"].get("podFailurePolicy", {}).get("rules", [])):
        if any(item["type"] in conditions for item in rule.get("onPodConditions", [])):
            return rule["action"], f"pod condition matching rule {number}"
        if (on := rule.get("onExitCodes")) and ended.get("exitCode"):
            is_in = ended["exitCode"] in on["values"]
            if is_in == (on["operator"] == "In"):
                return rule["action"], (
                    f"Container {container['name']} for pod {pod['metadata']['namespace']}/"
                    f"{pod['metadata']['name']} failed with exit code {ended['exitCode']} matching "
                    f"{rule['action']} rule at index {number}"
                )
    return "Count", ""
