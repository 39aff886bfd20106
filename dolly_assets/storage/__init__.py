"""Artifacts in an object store: immutable, content-addressed, verified whenever they are read.

It knows files, hashes and stores, not what an artifact means; only `io_manager.py`
and `asset_metadata.py` know Dagster.

- `opening.py`: the store that the environment names, as the CLI and notebooks open it.
- `artifact.py`: the part to use: publish, find, verify and collect artifacts.
- `reading.py`: a published artifact as a reader has it.
- `manifest.py`: what a publication records; no input or output.
- `records.py`: reads what publications record, each once on a machine.
- `ranks.py`: many processes publish one artifact together.
- `cache.py`: verified copies on this machine.
- `verification.py`: reads all publications back.
- `gc.py`: deletes what a retention policy expires and unreferenced content.
- `locks.py`: keeps commits and garbage collection apart.
- `send.py`, `fetch.py`: files to and from the store, in parallel, in verified chunks.
- `blobs.py`, `flow.py`: one blob of the store; what bounds a transfer.
- `object_store.py`: keys and bytes of every kind of store; only `s3_names.py` talks to one, too.
- `listing.py`: the objects of a store, also beside files whose names are no keys.
- `s3.py`: endpoint, region and credentials of S3.
- `s3_names.py`: lists a prefix of S3 whose objects have any names.
- `round_trip.py`: whether a store can be written, read and deleted from; also a command.
- `tables.py`: tables in files: read ones whose content nobody vouches for, and write.
- `large_tables.py`: tables and arrays that may be larger than memory.
- `conventions.py`: file and folder names that are the same for all artifacts.
- `asset_metadata.py`: an artifact as the metadata of a Dagster asset.
- `io_manager.py`: Dagster's outputs and inputs as artifacts.
"""

from dolly_assets.storage.artifact import Artifact, ArtifactStore, artifact_name
from dolly_assets.storage.gc import Garbage, RetentionPolicy, Rule
from dolly_assets.storage.manifest import FileEntry, Manifest
from dolly_assets.storage.opening import open_store
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
    "open_store",
]
