"""Whether published models carry the template that their data was laid out in, as asset checks."""

from collections.abc import Iterator

import dagster as dg

from dolly_assets.assets.epoch_checks import build_epoch_checks
from dolly_assets.core.markdown import inline
from dolly_assets.dagster_support.partitions import partition_of
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import BASE_MODEL, MODEL_CHECKPOINT
from dolly_assets.registry.published_templates import template_problems
from dolly_assets.registry.queries import required
from dolly_assets.storage.artifact import Artifact, ArtifactStore

CHECK = "published_template"
_DESCRIPTION = "Servers prompt the model with the template and stop tokens that it is trained with."


def build_base_model_template_check(family: ModelFamily) -> dg.AssetChecksDefinition:
    """Return the check of `FAMILY/base_model`."""
    key = dg.AssetKey(BASE_MODEL.key(family.name))

    @dg.asset_check(asset=key, name=CHECK, description=_DESCRIPTION)
    def published_template(store: StoreResource) -> dg.AssetCheckResult:
        artifacts = store.open()
        found = template_problems(artifacts, required(artifacts, BASE_MODEL.address(family.name)))
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.ERROR,
            description=_description(found),
        )

    return published_template


def build_checkpoint_template_check(family: ModelFamily) -> dg.AssetChecksDefinition:
    """Return the check of `FAMILY/model_checkpoint`."""
    return build_epoch_checks(
        family,
        MODEL_CHECKPOINT,
        {CHECK: _DESCRIPTION},
        template_evaluations,
        name=f"{family.name}__model_checkpoint_template",
        description=_DESCRIPTION,
    )


def template_evaluations(
    store: ArtifactStore, checkpoint: Artifact
) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the evaluation of a checkpoint's check."""
    found = template_problems(store, checkpoint)
    address = ArtifactAddress.parse(checkpoint.name)
    yield dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(address.asset_key),
        check_name=CHECK,
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,
        description=_description(found),
        partition=partition_of(address),
    )


def _description(found: list[str]) -> str:
    return inline("; ".join(found) or "the same template and stop tokens")
