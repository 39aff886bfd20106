"""Dagster's outputs as artifacts, and its inputs as handles on them.

Of this package, only this module and `asset_metadata.py` know Dagster.
"""

import json
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, PrivateAttr

from dolly_assets.core.errors import ArtifactError
from dolly_assets.storage.artifact import Artifact, ArtifactStore, artifact_name
from dolly_assets.storage.asset_metadata import artifact_metadata
from dolly_assets.storage.conventions import PICTURE_FILE, TABLE_FILE, VALUE_FILE
from dolly_assets.storage.flow import in_parallel
from dolly_assets.storage.s3 import S3Settings


class StoreSettings(S3Settings, dg.Config):
    """Where artifacts are: a store's URL, this machine's cache, and the connection to S3."""

    url: str = Field(
        description="URL of the store: a local path, s3://bucket/prefix, gs:// or az://."
    )
    cache_dir: str = Field(
        description="Folder on this machine for verified copies of what is read."
    )
    cache_limit_bytes: int | None = Field(
        default=None, description="Limit of these copies, in bytes; none if left out."
    )

    @property
    def s3(self) -> S3Settings:
        """Endpoint, region and profile of S3."""
        return S3Settings(**{name: getattr(self, name) for name in S3Settings.model_fields})

    def open(self) -> ArtifactStore:
        """Return a handle on the store."""
        return ArtifactStore(
            self.url, Path(self.cache_dir), cache_limit_bytes=self.cache_limit_bytes, s3=self.s3
        )


class ArtifactIOManager(StoreSettings, dg.ConfigurableIOManager):
    """Publishes outputs under the name of their asset and partition; loads inputs as lazy handles.

    An output is a folder (`Path`), a `pyarrow.Table` or a JSON value; an `Artifact`, which a worker
    has already published, is only described. The digest becomes the data version, unless the asset
    sets one itself.

    An input is an `Artifact`, or with several partitions a `dict` of them by partition key. An
    input annotated `pa.Table` (or `dict[str, pa.Table]`) is the table that was returned upstream.
    """

    _opened: ArtifactStore | None = PrivateAttr(default=None)
    # step -> name of an artifact that it loaded -> digest
    _loaded: dict[str, dict[str, str]] = PrivateAttr(default_factory=dict)

    @property
    def store(self) -> ArtifactStore:
        """The store, opened on first use."""
        if self._opened is None:
            self._opened = self.open()
        return self._opened

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Publish an asset's value and describe the artifact in the materialization."""
        if isinstance(obj, Artifact):
            artifact, metadata = obj, artifact_metadata(obj)
        else:
            began_seconds = time.monotonic()
            artifact = self._publish(context, obj)
            seconds = time.monotonic() - began_seconds
            metadata = artifact_metadata(artifact) | {
                "seconds": seconds,
                "megabytes_per_second": artifact.size_bytes / 1e6 / seconds,
            }
        context.add_output_metadata(metadata)
        # Dagster uses it for the materialization when the asset's own result has none.
        context.step_context.set_data_version(context.asset_key, dg.DataVersion(artifact.digest))

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the newest artifacts of the asset and partitions that the input stands for."""
        loaded = self._loaded.setdefault(context.step_context.step.key, {})
        wanted = context.dagster_type.typing_type
        by_partition = _is_mapping(wanted)
        if by_partition:
            wanted = (get_args(wanted) or (str, Any))[1]
        if not context.has_asset_partitions:
            return self._load(context.asset_key, None, wanted, loaded)
        keys = list(context.asset_partition_keys)
        if len(keys) == 1 and not by_partition:
            return self._load(context.asset_key, keys[0], wanted, loaded)
        found = in_parallel(lambda key: self._load(context.asset_key, key, wanted, loaded), keys)
        return dict(zip(map(str, keys), found, strict=True))

    def _load(
        self, asset_key: dg.AssetKey, partition_key: str | None, wanted: Any, loaded: dict[str, str]
    ) -> Any:
        partition = () if partition_key is None else (partition_key,)
        artifact = self.store.latest(artifact_name(asset_key.path, *partition))
        if artifact is None:
            of_partition = f", partition {partition_key}," if partition else ""
            raise ArtifactError(
                f"{self.store.url} has no artifact of asset {asset_key.to_user_string()}"
                f"{of_partition} yet: materialize it first"
            )
        loaded[artifact.name] = artifact.digest
        return artifact.read_table(TABLE_FILE) if wanted is pa.Table else artifact

    def _inputs(self, context: dg.OutputContext) -> dict[str, str]:
        """Return what a value was made from: name -> digest.

        These are the artifacts that its step has loaded. Of other upstream assets it is the data
        version that Dagster knows; for several partitions of one asset, a hash of theirs.
        """
        step = context.step_context
        inputs = dict(self._loaded.get(step.step.key, {}))
        for key in step.job_def.asset_layer.get(context.asset_key).parent_keys:
            name = artifact_name(key.path)
            if not any(loaded == name or loaded.startswith(f"{name}/") for loaded in inputs):
                known = step.maybe_fetch_and_get_input_asset_version_info(key)
                if known and known.data_version:
                    inputs[name] = known.data_version.value
        return inputs

    def _publish(self, context: dg.OutputContext, value: Any) -> Artifact:
        partition = tuple(context.asset_partition_keys) if context.has_asset_partitions else ()
        if len(partition) > 1:
            raise ArtifactError(
                f"asset {context.asset_key.to_user_string()} returned one value for "
                f"{len(partition)} partitions: run one partition at a time "
                "(BackfillPolicy.multi_run)"
            )
        name = artifact_name(context.asset_key.path, *partition)
        made_by = {"run_id": context.run_id, "host": socket.gethostname()}
        with tempfile.TemporaryDirectory() as folder:
            tree = value if isinstance(value, Path) else _written(value, Path(folder), name)
            return self.store.publish(
                name,
                tree,
                descriptions=_descriptions(tree),
                kind=context.asset_key.path[-1],
                inputs=self._inputs(context),
                made_by=made_by,
            )


def _written(value: Any, folder: Path, name: str) -> Path:
    if isinstance(value, pa.Table):
        pq.write_table(value, folder / TABLE_FILE, compression="zstd")
        return folder
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"{name}: cannot store a {type(value).__name__} ({error}): return a Path to a folder, "
            "a pyarrow.Table, an Artifact or a JSON value"
        ) from error
    (folder / VALUE_FILE).write_text(text, encoding="utf-8")
    return folder


def _descriptions(tree: Path) -> list[str]:
    """Return the picture of a folder that holds something else, too."""
    has_more = tree.is_dir() and any(each.name != PICTURE_FILE for each in tree.iterdir())
    return [PICTURE_FILE] if has_more else []


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, Mapping)
