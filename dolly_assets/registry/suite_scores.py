"""Scores on suites that are in the store: of which weights, and of which suite with its settings.

A suite is scored once for the same weights; what was scored is taken over into new artifacts.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from dolly_assets.core.hashing import json_digest
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import SuiteScore, SuiteScoresAttributes
from dolly_assets.registry.inputs import input_digest
from dolly_assets.registry.kinds import BASE_MODEL, SUITE_SCORES
from dolly_assets.registry.queries import history, newest
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.manifest import FileEntry


class ScoredSuite(NamedTuple):
    """The scores on a suite, with the file of their results by record.

    Attributes:
        score: The scores.
        artifact: What holds the results.
        file: The file in it.
    """

    score: SuiteScore
    artifact: Artifact
    file: FileEntry

    def table(self) -> pa.Table:
        """Return the results by record."""
        return self.artifact.read_table(self.file.path)


def results_file(suite: str) -> str:
    """Return the name of the file with a suite's results."""
    return f"{suite}.parquet"


def weights_of(checkpoint: Artifact) -> str:
    """Return the digest of what answers: weights, base model and template."""
    stated = checkpoint.manifest.attributes
    return json_digest(
        [
            stated.get("weights_sha256") or checkpoint.digest,
            input_digest(checkpoint, BASE_MODEL),
            stated.get("template_digest"),
        ]
    )


def suites_in(artifact: Artifact) -> dict[str, ScoredSuite]:
    """Return the scores that an artifact holds, by suite."""
    files = {entry.path: entry for entry in artifact.manifest.files}
    return {
        name: ScoredSuite(score, artifact, files[results_file(name)])
        for name, score in SuiteScoresAttributes.of(artifact).suites.items()
        if results_file(name) in files
    }


def scored_before(
    store: ArtifactStore, address: ArtifactAddress, weights: str
) -> dict[tuple[str, str], ScoredSuite]:
    """Return what the same weights have scored, by suite and its settings.

    Args:
        store: Where it is looked up.
        address: Of the epoch's scores. Of epoch 0, the base model's on other datasets are as good.
        weights: What `weights_of` returns.
    """
    return {
        (name, scored.score.settings): scored
        for artifact in _candidates(store, address)
        if SuiteScoresAttributes.of(artifact).weights == weights
        for name, scored in suites_in(artifact).items()
    }


def _candidates(store: ArtifactStore, address: ArtifactAddress) -> Iterator[Artifact]:
    """Yield scores of the same epoch, the newest last."""
    if address.epoch == 0:
        for found in newest(store, SUITE_SCORES, address.family):
            if found.name != address.name and ArtifactAddress.parse(found.name).epoch == 0:
                yield found
    yield from reversed(history(store, address))
