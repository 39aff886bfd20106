"""The check of `judgement`, by epoch: whether the judge prefers the base model.

It warns if it does and chance would hardly let it, one-sided at 5 %. Without a win rate the epoch
has neither passed nor failed.
"""

from collections.abc import Iterator

import dagster as dg

from dolly_assets.assets.epoch_checks import build_epoch_checks
from dolly_assets.core.markdown import inline
from dolly_assets.dagster_support.partitions import partition_of
from dolly_assets.family import ModelFamily
from dolly_assets.judging.outcome import SIGNIFICANCE, sign_test
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import JudgementAttributes
from dolly_assets.registry.kinds import JUDGEMENT
from dolly_assets.storage.artifact import Artifact

CHECK = "judge_not_for_base"


def build_judgement_checks(family: ModelFamily) -> dg.AssetChecksDefinition:
    """Return the check of `FAMILY/judgement`."""
    return build_epoch_checks(
        family,
        JUDGEMENT,
        {CHECK: "The judge does not prefer the base model's answers."},
        lambda _, judgement: judgement_evaluations(judgement),
        name=f"{family.name}__judgement_preference",
        description="Whether the judge prefers the base model.",
    )


def judgement_evaluations(judgement: Artifact) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the evaluation of the check, if there is a win rate."""
    found, address = JudgementAttributes.of(judgement), ArtifactAddress.parse(judgement.name)
    if found.win_rate is None:
        return
    chance = sign_test(found.losses, found.wins, is_one_sided=True)
    yield dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(address.asset_key),
        check_name=CHECK,
        passed=chance > SIGNIFICANCE,
        severity=dg.AssetCheckSeverity.WARN,
        description=inline(found.verdict or ""),
        partition=partition_of(address),
    )
