"""Artifacts in an object store: immutable, content-addressed, verified whenever they are read.

`artifact.py` is the part to use; `manifest.py` says what a publication records, `transfer.py` moves bytes,
`cache.py` keeps verified copies on this machine, `object_store.py` is the one door to the stores. Only
`io_manager.py` knows Dagster.
"""

from dolly_assets.storage.artifact import Artifact, ArtifactStore, Damage, Verification, artifact_name
from dolly_assets.storage.manifest import FileEntry, Manifest

__all__ = ["Artifact", "ArtifactStore", "Damage", "FileEntry", "Manifest", "Verification", "artifact_name"]
