"""Trains the family `demo` in pods, and compares the weights with those of the local launcher.

    python -m benchmarks.kubernetes_demo [--records 1200] [--epochs 2] [--cluster PROGRAM]
    python -m benchmarks.kubernetes_demo.soak [--minutes 60] [--beside] [--cluster PROGRAM]

On a real cluster if a program makes one (`DOLLY_TEST_CLUSTER`, see CONTRIBUTING.md), else on the
tests' stand-in, whose pods are processes of this machine. Model, recipe and tasks are the demo's,
with `--records` of its examples; DeepSpeed's ranks are real, and each training is one Dagster run.
The soak needs a real cluster.

- `bench.py`: a home with the families, and trainings in it.
- `ui.py`: runs that are started, killed and re-executed in the UI.
- `here.py`: a training on this machine in a process of its own.
- `soak.py`: one long training under disruption after disruption.
"""
