"""Profiles of a training's epochs: sampled on rank 0, built in a process beside it, published.

Knows epochs as spans of time, and nothing of checkpoints; how a profile is measured and drawn is
known to `dolly_assets.profiling`. Its modules are imported one by one.

- `epoch_profiler`: samples while a training runs, and has each epoch's profile published.
- `report_process`: the process that builds and publishes profiles.
- `profile_publisher`: from the recorded files to a published profile.
- `live`: the report of a running training, in the store.
- `interrupted`: profiles of trainings that were killed or failed.
"""
