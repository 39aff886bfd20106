"""Automation: datasets that arrive, sources that change, assets that follow, and alerts.

Knows sensors, schedules and conditions of Dagster; what an asset contains and how it is built are
`assets`'.

- `inbox_sensor`: registers and ingests the datasets that arrive in the inbox.
- `schedules`: check the sources of known datasets for changes.
- `conditions`: when the assets of a family are materialized automatically.
- `alert_sensors`: report failed runs and checks, late assets and new champions.
- `alerts`: deliver an alert to the log and to the URLs of `DOLLY_ALERTS`.
- `dataset_sensor`: makes every known dataset a partition.
- `orphaned_jobs`: deletes Jobs of the cluster whose run is over.
"""
