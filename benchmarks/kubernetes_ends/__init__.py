"""Brings about every end that a training in a cluster can take, and measures what comes of it.

    python -m benchmarks.kubernetes_ends [--only REGEX] [--cluster PROGRAM | --stand-in]

On a real cluster if a program makes one (`DOLLY_TEST_CLUSTER`, see CONTRIBUTING.md), else on the
tests' stand-in, whose own times (grace periods) pass 20 times as fast. Workers train nothing;
launcher, client, watches, messages and store are real. For each end the table has the seconds
until the run's log states what has happened, and those until all pods are at work again, counted
from the removal of the cause where there is one; then GPUs left booked, epochs lost and epochs
trained twice, which are to be 0. Exit code 1 if an end is another than it should be.

- `stage.py`: where one end is brought about, and what is measured.
- `anywhere.py`: ends that both kinds of cluster bring about.
- `machines.py`: ends that need real nodes and a real control plane.
- `kueue.py`: ends that Kueue brings about.
- `crowd.py`: many trainings at once on the stand-in.
"""
