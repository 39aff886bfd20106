"""Workers: they run on the machine with the GPUs, fetch artifacts, call libraries and publish.

A worker knows no Dagster. It gets one JSON document, its spec, and reports through messages of
`dagster_pipes`.

- `__main__.py`: one rank of a worker: runs the task of its spec, and reports its end.
- `spec.py`: the spec, which is the contract with the orchestrator.
- `explanation.py`: what a user can do when memory or a disk ran out.
- `messages.py`: the messages, and the `Messenger` that sends them.
- `message_store.py`: messages through the store, for workers without a shared disk.
- `tasks/`: the tasks, one module each.
- `checkpoint_publisher.py`: writes and publishes the epochs of a training as they end.
- `contamination.py`: which records of suites a checkpoint's training data holds.
- `training_data.py`: the file that a training reads, guarded against changes.
- `preflight.py`: checks of GPUs, network, disk and store before a model is loaded.
- `profiles/`: samples the devices during a training, and publishes a report for each epoch.
- `pod.py`: the entry point in a pod: one node's part of a worker.
- `torchrun.py`: torchrun, with the exit code of the rank that ended first.
- `restart.py`: what is left of a task when a cluster restarts its worker.
"""
