"""The record of a publication: its digest, and what a damaged or foreign record is refused for."""

import hashlib
import json
from datetime import UTC, datetime

import pytest

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage import FileEntry, Manifest

MANIFEST = Manifest(
    name="demo/evaluation",
    kind="evaluation",
    files=(FileEntry(path="scores.json", size_bytes=2, sha256="ab" * 32),),
    attributes={"accuracy": 0.1},
    created_at=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
)


def _sealed(**changes: object) -> bytes:
    """A record as another program would write it, its hash in order."""
    record = json.loads(MANIFEST.to_json()) | changes
    del record["record_sha256"]
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return json.dumps(
        record | {"record_sha256": hashlib.sha256(canonical.encode()).hexdigest()}
    ).encode()


def test_a_record_comes_back_as_it_was() -> None:
    assert Manifest.from_json(MANIFEST.to_json(), MANIFEST.key) == MANIFEST
    assert MANIFEST.key.startswith("manifests/demo/evaluation/20260102T030405.000678Z-")


def test_the_digest_is_that_of_the_files_alone() -> None:
    """Every store in use relies on the value: a change would need a new schema_version."""
    other = MANIFEST.model_copy(
        update={"name": "x", "kind": "y", "attributes": {}, "created_at": datetime.now(UTC)}
    )
    assert other.digest == MANIFEST.digest
    canonical = '[{"path":"scores.json","sha256":"' + "ab" * 32 + '","size_bytes":2}]'
    assert MANIFEST.digest == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema_version": 3}, "schema_version is 3, this program reads 1 and 2"),
        ({"schema_version": 2}, "schema_version is 2, which its files contradict"),
        ({"files": []}, "files"),
        (
            {"files": [{"path": "../x", "size_bytes": 2, "sha256": "ab" * 32}]},
            "not a relative path",
        ),
        ({"files": [{"path": "x", "size_bytes": 2, "sha256": "../../x"}]}, "pattern"),
        ({"files": [{"path": "x", "size_bytes": 2, "sha256": "ab" * 32}]}, "it describes"),
        ({"name": "demo/other"}, "it describes manifests/demo/other"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_record_that_is_not_ours_is_refused_with_a_reason(changes: dict, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason) as caught:
        Manifest.from_json(_sealed(**changes), MANIFEST.key)
    assert MANIFEST.key in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_that_was_changed_is_refused() -> None:
    with pytest.raises(ArtifactError, match="record_sha256"):
        Manifest.from_json(MANIFEST.to_json().replace(b"0.1", b"0.9"), MANIFEST.key)
    for data in (b"", b"[]", b"\xff", MANIFEST.to_json()[:100]):
        with pytest.raises(ArtifactError, match="is damaged"):
            Manifest.from_json(data, MANIFEST.key)
