"""What assets, checks and automation share on Dagster's side: resources, partitions and events.

It turns artifacts and workers' messages into Dagster's terms, and knows no single asset.

- `resources.py`: the store and the workers, as resources.
- `worker_run.py`: what becomes of a worker's messages.
- `scratch.py`: the working folders of runs.
- `run_context.py`: a step and its run as an owner of Jobs, and as the maker of artifacts.
- `partitions.py`: datasets, epochs and the GPU pool.
- `events.py`: materializations and observations of artifacts.
- `per_epoch.py`: assets that a worker makes from each epoch's checkpoint.
- `interrupted_profiles.py`: profiles of interrupted epochs and live reports, as observations.
- `protected_digests.py`: the artifacts that current materializations point at.
- `columns.py`, `report_links.py`: metadata.
- `console.py`: how runs look on a terminal.
- `seams.py`: Dagster's private interfaces.
"""
