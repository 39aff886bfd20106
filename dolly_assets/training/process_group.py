"""The ranks of a training as one group: joining, waiting, agreeing, leaving.

It knows nothing of what is trained.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainingArguments

# Ranks wait for the first one while it waits for an upload that is slower than an epoch.
COLLECTIVE_TIMEOUT_SECONDS = 4 * 3600
# What torchrun tells a rank (https://docs.pytorch.org/docs/stable/elastic/run.html), for the only
# one. Port 0 is any.
ONLY_RANK = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "0",
}


def rank_and_size() -> tuple[int, int]:
    """This process's rank and the number of ranks, as torchrun has put them into the environment."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def ranks_here() -> int:
    """The number of ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def be_the_only_rank_unless_launched() -> None:
    """Lets one process train without torchrun: DeepSpeed would else look for MPI."""
    if "RANK" not in os.environ:
        os.environ.update(ONLY_RANK)


def skip_shared_memory_op() -> None:
    """Keeps DeepSpeed from compiling its shared-memory op when it starts on CPU ranks.

    Only `inference_all_reduce` uses it, which training never calls; compiling takes a compiler and
    some 40 s.
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def meet_other_ranks(arguments: "TrainingArguments") -> None:
    """Joins the process group.

    Before the model is loaded: with ZeRO 3 it is sharded over the ranks as it loads.
    """
    import deepspeed

    _ = arguments.device  # the Trainer's own way, which on CPUs leaves DeepSpeed out
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(dist_backend="gloo")


def node_and_nodes() -> tuple[int, int]:
    """Which machine of the training this is, and how many there are, all with as many ranks."""
    rank, ranks = rank_and_size()
    of_each = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return rank // of_each, max(1, ranks // of_each)


def lost_another_node(error: BaseException) -> bool:
    """Whether an error, or what caused it, is that of a rank whose connection to other machines' ranks broke."""
    if node_and_nodes()[1] == 1:
        return False
    import torch.distributed

    # gloo raises plain RuntimeErrors: "[…/gloo/transport/tcp/pair.cc:…] Connection closed by peer".
    errors = [error, error.__cause__]
    return any(
        isinstance(each, torch.distributed.DistError) or "gloo" in str(each).lower()
        for each in errors
    )


class HostGroup:
    """The same ranks, talking from host to host: a few bytes never wait for a device's queue."""

    def __init__(self) -> None:
        import torch.distributed

        self._group: Any = None  # the default group
        if torch.distributed.is_initialized() and torch.distributed.get_backend() != "gloo":
            self._group = torch.distributed.new_group(backend="gloo")

    def largest(self, value: int) -> int:
        """The largest of what the ranks say; every rank comes here at the same point of the training."""
        import torch

        if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
            return value
        said = torch.tensor([value], dtype=torch.int32)
        torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(said)

    def of_first(self, value: int) -> int:
        """What rank 0 says, a 64-bit number; every rank comes here at the same point of the training."""
        import torch

        if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
            return value
        said = torch.tensor([value], dtype=torch.int64)
        torch.distributed.broadcast(said, 0, group=self._group)
        return int(said)


def wait_for_all_ranks() -> None:
    """Returns when every rank has come here."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def leave_other_ranks() -> None:
    """Leaves the process group in good order: its threads, still running at exit, can abort a process that is done."""
    import torch.distributed

    wait_for_all_ranks()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
