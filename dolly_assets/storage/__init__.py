"""Artifacts in an object store: immutable, content-addressed, verified whenever they are read.

`artifact.py` is the part to use; `manifest.py` says what a publication records, `transfer.py` moves bytes,
`ranks.py` lets many processes publish one artifact, `gc.py` lets go of old ones, `locks.py` keeps the two apart,
`cache.py` keeps verified copies on this machine, `object_store.py` is the one door to the stores. Only
`io_manager.py` knows Dagster.
"""

from dolly_assets.storage.artifact import Artifact, ArtifactStore, Damage, Verification, artifact_name
from dolly_assets.storage.gc import Garbage, RetentionPolicy, Rule
from dolly_assets.storage.manifest import FileEntry, Manifest

__all__ = [
    "Artifact",
    "ArtifactStore",
    "Damage",
    "FileEntry",
    "Garbage",
    "Manifest",
    "RetentionPolicy",
    "Rule",
    "Verification",
    "artifact_name",
]
