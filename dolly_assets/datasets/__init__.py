"""Instruction data: where it comes from, its canonical columns, its quality and its licence.

Knows sources and records; it knows neither tokens nor families nor Dagster. Modules are imported
one by one, since reading files needs Arrow and most of the others do not.

- `config`: what is declared about a dataset.
- `catalogue`: the datasets known by name.
- `inbox`: the datasets that arrive in a folder or a bucket.
- `sources`: reads a dataset from a file, an object store or the Hub.
- `hub`: reads one from the Hub.
- `source_files`: the files of a source on this machine or in an object store.
- `layout`, `hub_card`: which files of a folder or a clone are the train split.
- `canonical`: records and tables in the canonical form, as exchanges or as conversations.
- `chat`: chat data in the forms in which other programs write it.
- `preferences`: two answers to one prompt, from files and vote by vote.
- `formats`: reads JSON, JSONL, CSV, TSV, Parquet and Arrow, and reports where a file is wrong.
- `columnar`, `arrow_records`, `arrow_sizes`, `compression`: Parquet, Arrow and compressed text, of
  bounded size.
- `json_text`: JSON, parsed strictly.
- `excerpts`: the first records of a table, for readers.
- `reading`: what was read of a source and what was not, in lines.
- `schema`: the canonical columns of exchanges, and how a source's columns are mapped to them.
- `demo`: the bundled, generated dataset.
- `licenses`: what licences allow and require.
- `quality`: the checks of a dataset.
"""
