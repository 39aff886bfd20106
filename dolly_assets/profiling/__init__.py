"""Profiles of what devices and host did while a command ran, with a report over them.

Knows commands, epochs and trainings only as spans of time, and imports nothing of the package but
`core` and `hardware`. Its four rooms import one way, `report` → `analysis` → `series` → `record`:

- `record`: takes samples and writes them, with events and the devices' description, to a folder.
- `series`: reads that folder back as columns: samples, steps, phases, spans.
- `analysis`: the numbers of a span: statistics, findings, cost, comparison with other spans.
- `report`: the page, the picture and the tables that show them.

`python -m dolly_assets.profiling -- COMMAND …` profiles any command; README.md shows how.
"""
