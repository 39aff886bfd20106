"""Workers as Kubernetes Jobs: they are built, submitted, followed and stopped here.

It knows Jobs, pods and the messages of workers; training and Dagster it doesn't know, except for
`job.py`, which merges configuration with dagster-k8s.

- `launcher.py`: the launcher: finds or creates the Job of a worker and follows it.
- `settings.py`: the deployment's settings, from the file that `DOLLY_KUBERNETES` names.
- `job.py`: the Job of a worker, from spec, settings and family.
- `job_monitor.py`: follows one Job to its end.
- `pods.py`: interprets the states of a Job and its pods.
- `pod_logs.py`: the logs of a Job's pods, and how pods have ended.
- `limits.py`: how long a Job may wait, start and run.
- `waiting.py`: why a Job waits.
- `failure.py`: why a Job has failed.
- `renewal.py`: when a Job is replaced, to restart without a pause.
- `gang.py`: pods restart together; nodes that do not answer are named.
- `message_reader.py`: the worker's messages, read from the store.
- `watch.py`: lists, watches and logs of the API on threads.
- `api.py`: the requests to the Kubernetes API, with retries.
- `worker_resources.py`: how many pods, ranks and GPUs a worker needs.
- `connection.py`: address and credentials of the cluster.
- `rights.py`: the permissions that these requests need.
- `clock.py`: how long a Job has waited and run.
"""

from dolly_assets.launchers.kubernetes.launcher import KubernetesLauncher
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings

__all__ = ["KubernetesLauncher", "KubernetesSettings"]
