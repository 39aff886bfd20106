"""Launchers: they start workers and follow them to their end, on this machine or in a cluster.

They know processes, Jobs and messages; what a worker does, and Dagster, they don't know.

- `base.py`: the protocol of a launcher.
- `local.py`: workers as processes of this machine.
- `kubernetes/`: workers as Jobs of a cluster.
- `interrupts.py`: ignores further requests to stop while a worker is being stopped.
"""

from dolly_assets.launchers.base import Launcher, Times
from dolly_assets.launchers.local import LocalLauncher

__all__ = ["Launcher", "LocalLauncher", "Times"]
