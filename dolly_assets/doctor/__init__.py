"""Checks of a deployment before anything is trained: what is missing, and how to fix it.

Each check yields one line, a `CheckResult`. It changes nothing, and knows neither assets nor
Dagster.

- `check_result.py`: the result of one check.
- `machine.py`: packages, GPUs, disk and store of this machine.
- `cluster.py`: permissions, Service, GPUs, quota, LimitRange and Secrets of a Kubernetes cluster.
- `limits.py`: what a quota and a LimitRange refuse.
- `pod.py`: whether a pod in the cluster reaches the store.
"""

from dolly_assets.doctor.check_result import CheckResult

__all__ = ["CheckResult"]
