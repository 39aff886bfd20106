"""What a sampler, a trainer and its ranks recorded, as columns over time.

Knows the files of a profile's folder, and nothing of what the numbers mean. Its modules are
imported one by one, since a trainer that only writes steps needs no Parquet.

- `columns`: JSON lines as Arrow tables, a block at a time.
- `samples`: the samples of a span, rates of counters, thinning for charts.
- `steplog`: one record per optimizer step and rank, `steps-RANK.jsonl`.
- `phases`: what the trainer was doing when, `phases.jsonl`.
- `spans`: which epoch a training was at when, `spans.jsonl`.
- `throughput`: the one definition of tokens per second and of the FLOPs utilization.
"""
