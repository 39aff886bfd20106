"""What a user can do about an error of a library or of the machine: memory or a disk ran out.

It knows errors, the recipe and the folders of a spec, not the task that failed.
"""

import errno
import shutil

from dolly_assets.training.loop.out_of_memory import is_out_of_memory, what_to_change
from dolly_assets.worker.spec import Train, WorkerSpec

FULL_DISK_BYTES = 2**20


def explanation(error: Exception, spec: WorkerSpec) -> str | None:
    """Return the cause and the remedy of an error, if the user can fix it."""
    if _is_disk_full(error, spec):
        return _disk_full(spec)
    if is_out_of_memory(error):
        return f"out of memory ({str(error).splitlines()[0]}): {_what_to_change(spec)}"
    return None


def _what_to_change(spec: WorkerSpec) -> str:
    if isinstance(spec.task, Train):
        return what_to_change(spec.family.recipe)
    size = spec.family.evaluation.batch_size
    return (
        f"change evaluation.batch_size from {size} to {max(1, size // 2)}, or use a machine with "
        "more memory"
    )


def _is_disk_full(error: Exception, spec: WorkerSpec) -> bool:
    """Return whether a write has failed because a disk is full.

    torch.save and safetensors do not report the reason, so the free space is checked too.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    folders = [folder for folder in (spec.scratch_dir, spec.cache_dir) if folder.exists()]
    return any(shutil.disk_usage(folder).free < FULL_DISK_BYTES for folder in folders)


def _disk_full(spec: WorkerSpec) -> str:
    remedy = "free some space"
    if spec.is_restartable:  # in a pod, whose disk nobody else can free
        remedy = "set compute.kubernetes.ephemeral_storage_gib to what the training needs"
    return (
        f"no space left on the disk of {spec.scratch_dir} or {spec.cache_dir}: {remedy} and "
        "run again; published epochs are kept"
    )
