"""Checks whether a pod with the worker's image reaches the store, by a small Job of its own.

It knows the store and the cluster, not families.
"""

import secrets
import time
from collections.abc import Callable

from dolly_assets.core.errors import DollyError
from dolly_assets.core.text import one_line
from dolly_assets.doctor.check_result import CheckResult
from dolly_assets.launchers.kubernetes.api import Api, explanation, patiently
from dolly_assets.launchers.kubernetes.job import build_check
from dolly_assets.launchers.kubernetes.pods import (
    Job,
    Pod,
    ending,
    has_started,
    how_it_ended,
)
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.launchers.kubernetes.waiting import latest, why_it_waits
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.round_trip import new_key

POLL_SECONDS = 0.5
WHAT = "store from a pod"


def check_store_from_pod(
    settings: KubernetesSettings, store_url: str, log: Callable[[str], None]
) -> CheckResult:
    """Let a pod read an object of this machine, and write, read and delete one of its own.

    Args:
        settings: The deployment's settings; the check may take `start_minutes`.
        store_url: The store.
        log: Called with the reason for which the pod waits.
    """
    from kubernetes.client import ApiException

    key = new_key()
    try:
        store, api = ObjectStore(store_url), Api(settings.namespace, settings.context)
        store.write(key, b"from dolly doctor")
        name = f"dolly-doctor-{secrets.token_hex(4)}"
        command = ["python", "-m", "dolly_assets.storage.round_trip", store_url, key]
        try:
            api.create_job(build_check(settings, name, command, None))
            return _followed(api, settings, name, log)
        finally:
            api.delete_job(name)
            store.delete([key])
    except ApiException as error:
        return CheckResult("unknown", WHAT, f"could not be followed: {explanation(error)}")
    except DollyError as error:
        return CheckResult("MISSING", WHAT, one_line(error))


def _followed(
    api: Api, settings: KubernetesSettings, name: str, log: Callable[[str], None]
) -> CheckResult:
    deadline = time.monotonic() + 60 * settings.start_minutes
    logged = ""
    while True:
        job: Job = next(iter(patiently(lambda: api.list_job(name)).items), None)
        pods: list[Pod] = patiently(lambda: api.list_pods(name)).items
        if job is None:
            return CheckResult("unknown", WHAT, f"Job {name} was deleted meanwhile")
        if ending(job):
            return _ended(api, job, pods)
        why = (
            ""
            if any(has_started(pod) for pod in pods)
            else why_it_waits(job, pods, latest(patiently(lambda: api.warnings_of("Job", name))))
        )
        if time.monotonic() > deadline:
            return CheckResult(
                "MISSING",
                WHAT,
                f"no pod has finished within start_minutes: {why or 'the store is slow there'}",
            )
        if why and why != logged:
            log(f"{'':<8} {WHAT}: waiting: {why}")
            logged = why
        time.sleep(POLL_SECONDS)


def _ended(api: Api, job: Job, pods: list[Pod]) -> CheckResult:
    pod = next((pod for pod in pods if has_started(pod)), None)
    output = _log(api, pod) if pod else ""
    if ending(job) == "Complete":
        return CheckResult("ok", WHAT, output)
    how = how_it_ended(pod) if pod else "its pod disappeared"
    remedy = (
        "give the pod's account or a Secret access to the store, and allow traffic to it "
        "(NetworkPolicy)"
    )
    return CheckResult("MISSING", WHAT, f"{how}: {output[-500:]}: {remedy}")


def _log(api: Api, pod: Pod) -> str:
    # With preloading, the client returns the text of a Python literal.
    response = patiently(lambda: api.pod_log(pod.metadata.name, _preload_content=False))
    return " ".join(response.data.decode(errors="replace").split())
