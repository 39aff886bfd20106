"""Dagster's private interfaces still are what `seams.py` was written against."""

from importlib.metadata import version

import dagster as dg

from dolly_assets.dagster_support import seams


def test_the_checked_version_is_installed() -> None:
    assert version("dagster").startswith(f"{seams.CHECKED_VERSION}.")


def test_a_job_over_assets_has_the_type_that_we_name() -> None:
    assert isinstance(dg.define_asset_job("job", dg.AssetSelection.all()), seams.AssetJob)


def test_the_last_evaluation_of_one_partition_is_found() -> None:
    key = dg.AssetCheckKey(dg.AssetKey("asset"), "check")
    with dg.DagsterInstance.ephemeral() as instance:
        assert seams.latest_check_evaluation(instance, key, "a") is None
        for partition, severity in (
            ("a", dg.AssetCheckSeverity.WARN),
            ("b", dg.AssetCheckSeverity.ERROR),
        ):
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=key.asset_key,
                    check_name=key.name,
                    passed=False,
                    severity=severity,
                    partition=partition,
                )
            )
        found = seams.latest_check_evaluation(instance, key, "a")
    assert found
    assert found.severity == dg.AssetCheckSeverity.WARN
