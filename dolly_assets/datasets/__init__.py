"""Instruction data: where it comes from, its canonical columns, its quality and its licence.

Knows sources and records; it knows neither tokens nor families nor Dagster. Modules are imported
one by one, since reading files needs Arrow and most of the others do not.

- `config`: what is declared about a dataset.
- `catalogue`: the datasets known by name.
- `inbox`: the datasets that arrive in a folder or a bucket.
- `sources`: reads a dataset from a file, an object store or the Hub.
- `formats`: reads JSON, JSONL, CSV and Parquet, and reports where a file is wrong.
- `schema`: the canonical columns, and how a source's columns are mapped to them.
- `demo`: the bundled, generated dataset.
- `licenses`: what licences allow and require.
- `quality`: the checks of a dataset.
"""
