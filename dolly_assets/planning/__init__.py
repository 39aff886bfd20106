"""What a training will need, before any machine is booked: memory, disk, time and money.

It computes from sizes, recipes and measurements that it is given: it knows nothing of the store,
and it starts nothing.

- `plan.py`: the plan of a training, each number with its source; the module to use.
- `memory.py`: memory by purpose, from published formulas.
- `scoring.py`: the same for scoring an epoch, which one process does.
- `model_shape.py`, `rows.py`: the sizes of a model, and of a tokenized dataset.
- `calibration.py`: what earlier epochs measured, beside what was planned for them.
- `changes.py`: what would make a training fit that does not.
- `prices.py`, `prices.yaml`: what GPU-hours cost and kilowatt-hours emit.
- `text.py`: a plan as a sentence, a table or a refusal.
"""
