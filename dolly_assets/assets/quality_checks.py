"""Quality and licences as asset checks of raw_dataset and of each family's tokenized_dataset.

A check that stops training fails its step, so that nothing after it in the run is run. Training
reads the reports in the store as well, so it is refused in every other run, too.
"""

from collections.abc import Iterator, Sequence, Set

import dagster as dg

from dolly_assets.core.errors import LicenseError, QualityError
from dolly_assets.core.markdown import inline, markdown_list
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.datasets.licenses import Licensed, check_use, commercial_use, obligations
from dolly_assets.datasets.quality.checks import CHECKS, CheckName
from dolly_assets.datasets.quality.report import (
    Verdict,
    examples_markdown,
    refusal,
    verdicts_markdown,
)
from dolly_assets.family import ModelFamily
from dolly_assets.registry.kinds import RAW_DATASET, TOKENIZED_DATASET
from dolly_assets.registry.quality_reports import (
    dataset_verdicts,
    licenses_of,
    raw_of,
    split_verdicts,
)
from dolly_assets.registry.queries import required

SPLIT_CHECKS: tuple[CheckName, ...] = (
    "leakage_exact",
    "leakage_near",
    "over_long",
    "prompt_markers",
    "evaluation_prompts",
)
DATASET_CHECKS: tuple[CheckName, ...] = tuple(
    name for name in CHECKS if name == "prompt_markers" or name not in SPLIT_CHECKS
)
LICENSE = "license"
_SEVERITIES = {"stops training": dg.AssetCheckSeverity.ERROR, "warns": dg.AssetCheckSeverity.WARN}


def build_dataset_checks() -> dg.AssetChecksDefinition:
    """Return the checks of `raw_dataset`, in one step."""

    @dg.multi_asset_check(
        name="raw_dataset_quality",
        specs=_specs(dg.AssetKey(RAW_DATASET.name), DATASET_CHECKS),
        description="Problems in the data of a dataset, whichever family trains on it.",
    )
    def raw_dataset_quality(
        context: dg.AssetCheckExecutionContext, store: StoreResource
    ) -> Iterator[dg.AssetCheckResult]:
        dataset, artifacts = context.partition_key, store.open()
        verdicts = dataset_verdicts(
            artifacts, required(artifacts, RAW_DATASET.address(dataset=dataset))
        )
        key = dg.AssetKey(RAW_DATASET.name)
        yield from _results(context, key, verdicts)
        yield from _not_checked(key, {verdict.name for verdict in verdicts})

    return raw_dataset_quality


def build_split_checks(family: ModelFamily) -> dg.AssetChecksDefinition:
    """Return the checks of `FAMILY/tokenized_dataset`, in one step."""
    key = dg.AssetKey(TOKENIZED_DATASET.key(family.name))
    license_spec = _spec(
        key, LICENSE, f"The licences of data and base model allow {family.use} use."
    )

    @dg.multi_asset_check(
        name=f"{family.name}__tokenized_dataset_quality",
        specs=[*_specs(key, SPLIT_CHECKS), license_spec],
        description="Problems in a dataset as this family splits it, and whether it may be trained "
        "on.",
    )
    def split_quality(
        context: dg.AssetCheckExecutionContext, store: StoreResource
    ) -> Iterator[dg.AssetCheckResult]:
        dataset, artifacts = context.partition_key, store.open()
        tokenized = required(artifacts, TOKENIZED_DATASET.address(family.name, dataset))
        inputs = licenses_of(family, raw_of(artifacts, tokenized))
        yield _license_result(key, inputs)
        yield from _results(context, key, split_verdicts(artifacts, family, tokenized))
        check_use(family.use, inputs)

    def _license_result(key: dg.AssetKey, inputs: Sequence[Licensed]) -> dg.AssetCheckResult:
        try:
            check_use(family.use, inputs)
            why = ""
        except LicenseError as error:
            why = str(error)
        return dg.AssetCheckResult(
            asset_key=key,
            check_name=LICENSE,
            passed=not why and commercial_use(inputs) != "unknown",
            severity=dg.AssetCheckSeverity.ERROR if why else dg.AssetCheckSeverity.WARN,
            description=inline(why or f"commercial use: {commercial_use(inputs)}"),
            metadata={
                "licenses": {each.asset: each.license for each in inputs},
                "obligations": dg.MetadataValue.md(markdown_list(obligations(inputs))),
            },
        )

    return split_quality


def _specs(key: dg.AssetKey, names: Sequence[CheckName]) -> list[dg.AssetCheckSpec]:
    return [
        _spec(key, name, f"{CHECKS[name].of.capitalize()} that {CHECKS[name].finds}.")
        for name in names
    ]


def _spec(key: dg.AssetKey, name: str, description: str) -> dg.AssetCheckSpec:
    """Return the spec of a check.

    Limits can make any check stop training, so each is blocking; it blocks when it fails as an
    error.
    """
    return dg.AssetCheckSpec(
        name, asset=key, description=description, blocking=True, partitions_def=DATASETS
    )


def _not_checked(key: dg.AssetKey, checked: Set[str]) -> Iterator[dg.AssetCheckResult]:
    """Yield a result for each check that datasets of another form have."""
    for name in DATASET_CHECKS:
        if name not in checked:
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=name,
                passed=True,
                description="not checked in a dataset of this form",
            )


def _results(
    context: dg.AssetCheckExecutionContext, key: dg.AssetKey, verdicts: Sequence[Verdict]
) -> Iterator[dg.AssetCheckResult]:
    """Yield a result for each check, and log a table of all with the asset's partition.

    Raises:
        QualityError: A check stops training.
    """
    for verdict in verdicts:
        yield _result(key, verdict)
    dataset = context.partition_key
    table = dg.MetadataValue.md(verdicts_markdown(verdicts))
    context.op_execution_context.log_event(
        dg.AssetObservation(key, partition=dataset, metadata={"quality": table})
    )
    if why := refusal(verdicts, dataset):
        raise QualityError(why)


def _result(key: dg.AssetKey, verdict: Verdict) -> dg.AssetCheckResult:
    finding, limits = verdict.finding, verdict.limits
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=verdict.name,
        passed=verdict.status == "passed",
        severity=_SEVERITIES.get(verdict.status, dg.AssetCheckSeverity.WARN),
        description=inline(verdict.sentence),
        metadata={
            "found": finding.found,
            "checked": finding.checked,
            "share": finding.share,
            "warn_above": limits.warn_above,
            **({} if limits.stop_above is None else {"stop_above": limits.stop_above}),
            **({"kinds": finding.kinds} if finding.kinds else {}),
            **(
                {"examples": dg.MetadataValue.md(examples_markdown(finding))}
                if finding.examples
                else {}
            ),
        },
    )
