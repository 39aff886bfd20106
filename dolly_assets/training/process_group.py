"""The ranks of a training as one group: joining, waiting, agreeing, leaving.

It knows nothing of what is trained.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import TrainingArguments

# Ranks wait for rank 0 while it waits for an upload that is slower than an epoch.
COLLECTIVE_TIMEOUT_SECONDS = 4 * 3600
# The environment that torchrun sets for a rank, for a single one. Port 0 stands for any free port.
# https://docs.pytorch.org/docs/stable/elastic/run.html
ONLY_RANK = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "0",
}


def rank_and_size() -> tuple[int, int]:
    """Return this process's rank and the number of ranks, from the environment of torchrun."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def ranks_on_this_node() -> int:
    """Return the number of ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def node_and_nodes() -> tuple[int, int]:
    """Return the index of this node and the number of nodes; all have the same number of ranks."""
    rank, ranks = rank_and_size()
    ranks_per_node = ranks_on_this_node()
    return rank // ranks_per_node, max(1, ranks // ranks_per_node)


def be_the_only_rank_unless_launched() -> None:
    """Let one process train without torchrun; without this, DeepSpeed would look for MPI."""
    if "RANK" not in os.environ:
        os.environ.update(ONLY_RANK)


def meet_other_ranks(arguments: "TrainingArguments") -> None:
    """Join the process group.

    Call it before the model is loaded: with ZeRO 3 the model is sharded over the ranks as it loads.
    """
    import deepspeed

    # Reading the property makes the Trainer join the group in its own way, which on CPUs does not
    # initialize DeepSpeed's communication.
    _ = arguments.device
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(dist_backend="gloo")


def wait_for_all_ranks() -> None:
    """Return when every rank has called this."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def leave_other_ranks() -> None:
    """Leave the process group, together with all ranks.

    Its threads would otherwise still run at exit, and can abort a process that has finished.
    """
    import torch.distributed

    wait_for_all_ranks()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def lost_another_node(error: BaseException) -> bool:
    """Return whether an error, or its cause, is a broken connection to the ranks of other nodes."""
    if node_and_nodes()[1] == 1:
        return False
    import torch.distributed

    # gloo raises plain RuntimeErrors: "[…/gloo/transport/tcp/pair.cc:…] Connection closed by peer".
    return any(
        isinstance(cause, torch.distributed.DistError) or "gloo" in str(cause).lower()
        for cause in (error, error.__cause__)
    )


class HostGroup:
    """The same ranks, communicating from host to host.

    A few bytes between hosts never wait for the queue of a device.
    """

    def __init__(self) -> None:
        import torch.distributed

        self._group: Any = None  # the default group
        if torch.distributed.is_initialized() and torch.distributed.get_backend() != "gloo":
            self._group = torch.distributed.new_group(backend="gloo")

    def sum(self, values: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return the sums over the ranks; all of them call it at the same point of the training."""
        import torch.distributed

        return self._reduced(values, torch.distributed.ReduceOp.SUM)

    def maximum(self, values: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return the largest over the ranks, likewise."""
        import torch.distributed

        return self._reduced(values, torch.distributed.ReduceOp.MAX)

    def _reduced(self, values: "NDArray[np.float64]", operation: Any) -> "NDArray[np.float64]":
        import torch

        if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
            return values
        tensor = torch.from_numpy(values.copy())
        torch.distributed.all_reduce(tensor, operation, group=self._group)
        return tensor.numpy()

    def rows(self, values: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return the rows of all ranks' tables, one rank after the other.

        Every rank calls it at the same point of the training, each with as many rows as it has.
        """
        import torch

        if not _has_other_ranks():
            return values
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(rank_and_size()[1])]
        torch.distributed.all_gather(counts, torch.tensor([len(values)]), group=self._group)
        most = max(int(count) for count in counts)
        filled = torch.zeros((most, values.shape[1]), dtype=torch.float64)
        filled[: len(values)] = torch.from_numpy(values)
        tables = [torch.empty_like(filled) for _ in counts]
        torch.distributed.all_gather(tables, filled, group=self._group)
        return torch.cat(
            [table[: int(count)] for table, count in zip(tables, counts, strict=True)]
        ).numpy()

    def largest(self, value: int) -> int:
        """Return the largest of all ranks' values.

        Every rank calls it at the same point of the training.
        """
        import torch

        if not _has_other_ranks():
            return value
        values = torch.tensor([value], dtype=torch.int32)
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(values)

    def of_first(self, value: int) -> int:
        """Return the value of rank 0, a 64-bit number.

        Every rank calls it at the same point of the training.
        """
        import torch

        if not _has_other_ranks():
            return value
        values = torch.tensor([value], dtype=torch.int64)
        torch.distributed.broadcast(values, 0, group=self._group)
        return int(values)


def _has_other_ranks() -> bool:
    import torch.distributed

    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
