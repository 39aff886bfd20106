"""The artifacts that Dagster's current materializations point at; garbage collection keeps them."""

from collections.abc import Iterator

import dagster as dg

from dolly_assets.dagster_support.events import DATA_VERSION

PAGE = 1000


def materialized_digests(instance: dg.DagsterInstance) -> set[str]:
    """Return the digests of the artifacts behind the newest materializations of all partitions.

    They are the data versions of the materializations.
    """
    return {
        digest for key in instance.get_asset_keys() for digest in _newest(instance, key) if digest
    }


def _newest(instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> Iterator[str | None]:
    seen: set[str | None] = set()
    for record in _materializations(instance, asset_key):
        materialization = record.asset_materialization
        if materialization and materialization.partition not in seen:
            seen.add(materialization.partition)
            yield (materialization.tags or {}).get(DATA_VERSION)


def _materializations(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey
) -> Iterator[dg.EventLogRecord]:
    """Yield all materializations of an asset, newest first."""
    cursor = None
    while True:
        page = instance.fetch_materializations(asset_key, limit=PAGE, cursor=cursor)
        yield from page.records
        if not page.has_more:
            return
        cursor = page.cursor
