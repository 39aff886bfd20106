"""Rolls deploy/kubernetes/serving/cpu out on a real cluster, and promotes a model under load.

    python -m benchmarks.kubernetes_serving [--clients 8] [--records 600] [--cluster PROGRAM]

Two epochs are trained on this machine and published to an S3 server that enforces deploy/iam/. The
servers are pods with the account, network policy and limits of a deployment; clients stream answers
from a pod of the same namespace while the other epoch is promoted and the CronJob restarts the
servers. Then it is tried who reaches whom. `DOLLY_TEST_CLUSTER` names the program that makes the
cluster (see CONTRIBUTING.md). Takes root.

- `objects.py`: what is applied.
- `clients.py`: the clients, in a pod.
- `deployment.py`: applies it, has clients ask, and tries connections.
"""
