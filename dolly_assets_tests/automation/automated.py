"""A code location whose conditions tick, and an instance that records materializations."""

from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from dolly_assets.dagster_support.events import DATA_VERSION
from dolly_assets.dagster_support.partitions import DATASETS


class Automated:
    """Ticks the conditions of a code location, and records materializations in its instance."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self._definitions, self._instance = definitions, instance
        self._cursor: Any = None

    def add_datasets(self, *names: str) -> None:
        self._instance.add_dynamic_partitions(str(DATASETS.name), list(names))

    def materialized(
        self,
        asset: str,
        partition: str | None,
        version: str,
        *,
        finding: dg.AssetCheckSeverity | None = None,
    ) -> None:
        """An asset's partition was materialized with this data version, and its checks were made.

        Args:
            asset: The asset's key, parts separated by slashes.
            partition: Its partition, if it has any.
            version: The data version.
            finding: How bad the one finding of its checks is; none if left out.
        """
        key = dg.AssetKey(asset.split("/"))
        checks = sorted(self._definitions.resolve_asset_graph().get_check_keys_for_assets({key}))

        @dg.op
        def report(context: dg.OpExecutionContext) -> None:
            context.log_event(
                dg.AssetMaterialization(key, partition=partition, tags={DATA_VERSION: version})
            )
            [newest] = context.instance.fetch_materializations(key, limit=1).records
            about = AssetCheckEvaluationTargetMaterializationData(
                storage_id=newest.storage_id, run_id=newest.run_id, timestamp=newest.timestamp
            )
            for number, check in enumerate(checks):
                found = finding if number == 0 else None
                context.log_event(
                    dg.AssetCheckEvaluation(  # pyright: ignore[reportArgumentType] its types forget them
                        key,
                        check.name,
                        passed=found is None,
                        severity=found or dg.AssetCheckSeverity.ERROR,
                        partition=partition,
                        target_materialization_data=about,
                    )
                )

        dg.GraphDefinition("reported", node_defs=[report]).execute_in_process(
            instance=self._instance
        )

    def tick(self) -> dict[str, set[str]]:
        """What is requested now: asset -> partitions, empty for an unpartitioned asset."""
        result = dg.evaluate_automation_conditions(
            self._definitions, self._instance, cursor=self._cursor
        )
        self._cursor = result.cursor
        return requested(self._definitions, result)


def requested(definitions: dg.Definitions, result: Any) -> dict[str, set[str]]:
    """Asset -> partitions that an evaluation requests, empty for an unpartitioned asset."""
    return {
        key.to_user_string(): {
            partition for partition in result.get_requested_partitions(key) if partition
        }
        for key in definitions.resolve_asset_graph().get_all_asset_keys()
        if result.get_num_requested(key)
    }
