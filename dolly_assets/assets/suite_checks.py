"""The check of `suite_scores`, by epoch: whether its training data holds records of the suites.

It warns and blocks nothing: a suite may overlap with the data on purpose.
"""

from collections.abc import Iterator

import dagster as dg

from dolly_assets.assets.epoch_checks import build_epoch_checks
from dolly_assets.core.markdown import markdown_list
from dolly_assets.dagster_support.partitions import partition_of
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import SuiteScoresAttributes
from dolly_assets.registry.kinds import SUITE_SCORES
from dolly_assets.storage.artifact import Artifact, ArtifactStore

NOT_CONTAMINATED = "not_contaminated"


def build_suite_checks(family: ModelFamily) -> dg.AssetChecksDefinition:
    """Return the check of `FAMILY/suite_scores`."""
    return build_epoch_checks(
        family,
        SUITE_SCORES,
        {NOT_CONTAMINATED: "No record of a suite shares a sequence of words with training data."},
        compare_suites,
        name=f"{family.name}__suite_contamination",
        description="Whether the training data holds records of the suites.",
    )


def compare_suites(_: ArtifactStore, scores: Artifact) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the evaluation of the check, unless no suite was compared with the training data."""
    suites = SuiteScoresAttributes.of(scores).suites
    if all(score.contaminated is None for score in suites.values()):
        return
    address = ArtifactAddress.parse(scores.name)
    yield dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(address.asset_key),
        check_name=NOT_CONTAMINATED,
        passed=not any(score.contaminated for score in suites.values()),
        severity=dg.AssetCheckSeverity.WARN,
        description=markdown_list(
            f"{name}: {score.contamination}" for name, score in suites.items()
        ),
        partition=partition_of(address),
    )
