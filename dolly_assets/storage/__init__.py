"""Artifacts in an object store: immutable, content-addressed, verified whenever they are read.

`artifact.py` is the part to use; `manifest.py` says what a publication records, `reading.py` is
what a reader gets of one, `verification.py` reads all of them back, `transfer.py` moves bytes,
`ranks.py` lets many processes publish one artifact, `gc.py` lets go of old ones, `locks.py` keeps
the two apart, `cache.py` keeps verified copies on this machine, `object_store.py` is the one door
to the stores, `s3.py` the way to S3. Only `io_manager.py` knows Dagster.
"""

from dolly_assets.storage.artifact import Artifact, ArtifactStore, artifact_name
from dolly_assets.storage.gc import Garbage, RetentionPolicy, Rule
from dolly_assets.storage.manifest import FileEntry, Manifest
from dolly_assets.storage.s3 import S3Settings
from dolly_assets.storage.verification import Damage, Verification

__all__ = [
    "Artifact",
    "ArtifactStore",
    "Damage",
    "FileEntry",
    "Garbage",
    "Manifest",
    "RetentionPolicy",
    "Rule",
    "S3Settings",
    "Verification",
    "artifact_name",
]
