"""The numbers of a span of samples: what was busy, what stands out, what it cost.

Knows series, and nothing of pages and charts. Its modules are imported one by one, since a family's
configuration needs only the limits of findings.

- `figures`: from the recording of a span to its numbers.
- `summary`: those numbers, as they are stored and compared.
- `training_summary`: the numbers of a whole training, from those of its epochs.
- `step_figures`: the numbers of optimizer steps.
- `findings`: what stands out; `gpu_errors`: errors of GPUs; `finding`: a finding and its limits.
- `verdict`: the headline of a report, and how busy the devices were.
- `idle_spans`: when the devices did little, and what ran meanwhile.
- `health`: error counts and throttling of the GPUs.
- `cost`: GPU-hours, energy, money and carbon.
- `compare`: two summaries side by side.
- `panels`: which series are shown together, under which name and unit.
- `units`: figures in words.
- `earlier_version`: reads the summaries that version 0.1 wrote.
"""
