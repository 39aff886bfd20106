"""How many pods, ranks and GPUs a worker needs.

It knows a worker's spec, and neither Jobs nor the cluster.
"""

import math
from dataclasses import dataclass

from dolly_assets.family import Compute
from dolly_assets.hardware.device_table import device_spec
from dolly_assets.worker.spec import Train, WorkerSpec

WITH_ACTIVATIONS = 1.25  # memory of a model that generates, as a multiple of its weights
BATCH_BYTES = 5 * 2**30  # the logits of a batch, with a large vocabulary
SMALLEST_GPU_MIB = 24 * 1024  # assumed of a family that does not name its GPUs


@dataclass(frozen=True)
class WorkerResources:
    """The resources that a worker needs in a cluster."""

    nodes: int
    ranks: int  # on each node
    gpus: int  # on each node

    @classmethod
    def of(cls, spec: WorkerSpec) -> "WorkerResources":
        """Return the resources of a spec's worker.

        Training gets what the family requests; scoring and sampling get as many of the GPUs of one
        node as hold the model; other tasks none.

        Raises:
            TrainingError: The global batch cannot be divided among the ranks.
        """
        compute = spec.family.compute
        if isinstance(spec.task, Train) and spec.task.epochs != (0,):
            ranks = compute.gpus or compute.cpu_ranks
            spec.family.recipe.accumulation_steps(compute.nodes * ranks)
            return cls(compute.nodes, ranks, compute.gpus)
        needs_gpu = spec.task.task in (
            "train",
            "evaluate",
            "sample",
            "score_suites",
            "export",
        )
        return cls(1, 1, gpus_that_hold(spec.weights_bytes, compute) if needs_gpu else 0)


def gpus_that_hold(weights_bytes: int, compute: Compute) -> int:
    """Return how many of a node's GPUs generate with a model, at most all of them.

    Args:
        weights_bytes: The size of the model's weights; 0 if unknown.
        compute: What the family requests.
    """
    known = device_spec(compute.device) if compute.device else None
    gpu_bytes = 2**20 * (known.memory_mib if known else SMALLEST_GPU_MIB)
    needed = WITH_ACTIVATIONS * weights_bytes + BATCH_BYTES
    return min(compute.gpus, math.ceil(needed / gpu_bytes))
