"""Whether a raw dataset in the store still is what the catalogue and its source say.

It asks the source for its version, and reads nothing else from it.
"""

from pydantic import JsonValue

from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.licenses import UNKNOWN
from dolly_assets.datasets.sources import source_version
from dolly_assets.registry.attributes import RawDatasetAttributes
from dolly_assets.storage.artifact import Artifact


def declared_attributes(dataset: DatasetConfig) -> dict[str, JsonValue]:
    """Return what the catalogue says of a dataset, as its artifact keeps it.

    A licence that the catalogue leaves out is the source's to state.
    """
    checks: dict[str, JsonValue] = {
        name: limits.model_dump(exclude_unset=True) for name, limits in dataset.checks.items()
    }
    stated: dict[str, JsonValue] = (
        {} if dataset.license == UNKNOWN else {"license": dataset.license}
    )
    return {
        "source": dataset.source,
        "answers": dataset.answers,
        "checks": checks or None,
        **stated,
    }


def is_as_declared(dataset: DatasetConfig, artifact: Artifact) -> bool:
    """Whether an artifact keeps what the catalogue says of the dataset now."""
    kept = artifact.manifest.attributes
    return all(kept.get(name) == value for name, value in declared_attributes(dataset).items())


def is_at_version(dataset: DatasetConfig, artifact: Artifact, version: str | None) -> bool:
    """Whether an artifact is as declared, and was read at a version of its source."""
    if not is_as_declared(dataset, artifact):
        return False
    return RawDatasetAttributes.of(artifact).version == version


def is_unchanged(dataset: DatasetConfig, artifact: Artifact) -> bool:
    """Whether an artifact is as declared, and its source is at the version that was read.

    Raises:
        DatasetError: The source cannot be reached, or there is nothing at it.
    """
    if not is_as_declared(dataset, artifact):
        return False
    return is_at_version(dataset, artifact, source_version(dataset.source))
