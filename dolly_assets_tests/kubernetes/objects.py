"""The objects of the stand-in cluster, with resource versions, and the history that watches read.

It knows no HTTP.
"""

import copy
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

Object = dict[str, Any]
KINDS = {
    "jobs": ("batch/v1", "Job"),
    "pods": ("v1", "Pod"),
    "services": ("v1", "Service"),
    "secrets": ("v1", "Secret"),
    "configmaps": ("v1", "ConfigMap"),
    "events": ("v1", "Event"),
    "resourcequotas": ("v1", "ResourceQuota"),
    "limitranges": ("v1", "LimitRange"),
    "serviceaccounts": ("v1", "ServiceAccount"),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim"),
    "nodes": ("v1", "Node"),
    "namespaces": ("v1", "Namespace"),
    "priorityclasses": ("scheduling.k8s.io/v1", "PriorityClass"),
    "runtimeclasses": ("node.k8s.io/v1", "RuntimeClass"),
}
CLUSTER_SCOPED = {"nodes", "namespaces", "priorityclasses", "runtimeclasses"}


class Change(NamedTuple):
    """One entry of the history."""

    version: int
    type: str  # ADDED, MODIFIED, DELETED
    plural: str
    object: Object


class Refused(Exception):  # noqa: N818 the API's word
    """The API's answer to a request that it does not do."""

    def __init__(self, code: int, reason: str, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.code, self.reason = code, reason
        self.causes = [{"reason": cause}] if cause else []


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(item: Object, type_: str) -> Object | None:
    """Status, reason and message of an object's condition, if it holds."""
    for found in item.get("status", {}).get("conditions", []):
        if found["type"] == type_ and found["status"] == "True":
            return {key: value for key, value in found.items() if key != "type"}
    return None


def with_condition(item: Object, type_: str, status: str, **more: str) -> list[Object]:
    """An object's conditions, with this one in place of an earlier one of its type."""
    others = [one for one in item["status"].get("conditions", []) if one["type"] != type_]
    return [*others, {"type": type_, "status": status, "lastTransitionTime": now(), **more}]


class Objects:
    """All objects. Every method may be called from any thread; what it returns is a copy."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._history: list[Change] = []
        self._oldest = self._version = 1

    @property
    def version(self) -> int:
        """The newest resource version."""
        return self._version

    def create(self, plural: str, namespace: str, body: Object) -> Object:
        """Adds an object; 409 if its name is taken."""
        with self.changed:
            body = copy.deepcopy(body)
            api_version, kind = KINDS[plural]
            metadata = body.setdefault("metadata", {})
            if "name" not in metadata:
                metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
            if plural not in CLUSTER_SCOPED:
                metadata["namespace"] = namespace
            key = (plural, "" if plural in CLUSTER_SCOPED else namespace, metadata["name"])
            if key in self._objects:
                raise Refused(409, "AlreadyExists", f'{plural} "{metadata["name"]}" already exists')
            metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now())
            self._objects[key] = {"apiVersion": api_version, "kind": kind, "status": {}, **body}
            return self._note("ADDED", key)

    def get(self, plural: str, namespace: str, name: str) -> Object:
        """One object; 404 if there is none."""
        with self.changed:
            return copy.deepcopy(self._objects[self._key(plural, namespace, name)])

    def list(self, plural: str, namespace: str = "") -> list[Object]:
        """All objects of a kind, of one namespace or of all."""
        with self.changed:
            return [
                copy.deepcopy(item)
                for (its_plural, its_namespace, _), item in self._objects.items()
                if its_plural == plural and namespace in ("", its_namespace)
            ]

    def update(self, plural: str, namespace: str, name: str, patch: Object) -> Object:
        """Lays a merge patch (RFC 7386) over an object."""
        with self.changed:
            key = self._key(plural, namespace, name)
            self._objects[key] = _merged(self._objects[key], patch)
            if "status" in patch:
                written = [{"subresource": "status", "time": now()}]
                self._objects[key]["metadata"]["managedFields"] = written
            return self._note("MODIFIED", key)

    def remove(self, plural: str, namespace: str, name: str) -> Object:
        """Takes an object out."""
        with self.changed:
            key = self._key(plural, namespace, name)
            gone = self._note("DELETED", key)
            del self._objects[key]
            return gone

    def changes(self, plural: str, since: int) -> Iterator[Change]:
        """The history of a kind after a version; 410 if it does not reach back so far."""
        with self.changed:
            if since < self._oldest:
                raise Refused(410, "Expired", f"too old resource version: {since} ({self._oldest})")
            return iter(
                [item for item in self._history if item.version > since and item.plural == plural]
            )

    def forget_history(self) -> None:
        """What was before can be watched no more, as after etcd's compaction."""
        with self.changed:
            self._history.clear()
            self._version += 1
            self._oldest = self._version

    def _key(self, plural: str, namespace: str, name: str) -> tuple[str, str, str]:
        key = (plural, "" if plural in CLUSTER_SCOPED else namespace, name)
        if key not in self._objects:
            raise Refused(404, "NotFound", f'{plural} "{name}" not found')
        return key

    def _note(self, type_: str, key: tuple[str, str, str]) -> Object:
        self._version += 1
        item = self._objects[key]
        item["metadata"]["resourceVersion"] = str(self._version)
        self._history.append(Change(self._version, type_, key[0], copy.deepcopy(item)))
        self.changed.notify_all()
        return copy.deepcopy(item)


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged
