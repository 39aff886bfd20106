"""The state of a training after a step: copied to host memory, written while training continues.

A rank's snapshot holds what this rank writes of a checkpoint, under the paths that the Trainer and
DeepSpeed use; it knows nothing of the other ranks' files. The same memory is used again for the
next snapshot.
"""

import copy
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dolly_assets.hardware.control_group import ControlGroup
from dolly_assets.training import seams
from dolly_assets.training.process_group import ranks_on_this_node

if TYPE_CHECKING:
    import torch
    from transformers import Trainer

# Share of the free memory that is left to the training itself.
_SPARE = 0.25


@dataclass(frozen=True)
class Snapshot:
    """One rank's part of a checkpoint folder. The folder belongs to this rank alone."""

    folder: Path
    _writes: Sequence[Callable[[], None]] = ()

    @property
    def in_memory(self) -> bool:
        """Whether `write` has work left: otherwise all was written while training waited."""
        return bool(self._writes)

    def write(self) -> Path:
        """Write the files, in any thread, and return the folder.

        Its memory may be used again from then on.
        """
        for write in self._writes:
            write()
        return self.folder


class Snapshots:
    """Takes snapshots of one rank of a training."""

    def __init__(self, trainer: "Trainer", copy_bytes: int | None = None) -> None:
        """Prepare for snapshots of a Trainer whose engine is DeepSpeed's.

        Args:
            trainer: The Trainer to copy.
            copy_bytes: Host memory that the copies may take; None for what is free at the time.
        """
        self._trainer, self._copy_bytes = trainer, copy_bytes
        self._memory, self._is_reserved = _HostMemory(), False

    def take(self, folder: Path, *, weights: bool) -> Snapshot:
        """Take the state that resuming needs.

        Every rank calls it after the same step, once its last snapshot is written. Where host
        memory is too small for a copy, the files are written before this returns.

        Args:
            folder: The folder to create.
            weights: Whether to include the weights that others load.
        """
        trainer = self._trainer
        folder.mkdir(parents=True)
        states = self._states(folder)
        seams.save_training_state(trainer, folder)
        if trainer.args.should_save:
            trainer.state.save_to_json(str(folder / "trainer_state.json"))
        contents = [*states.values(), seams.published_weights(trainer) if weights else None]
        is_copied = self._fits(contents)
        if is_copied:
            contents = self._memory.copy(contents)
        writes = [_write_state(path, state) for path, state in zip(states, contents, strict=False)]
        if weights:
            writes.append(lambda: seams.save_weights(trainer, folder, contents[-1]))
        snapshot = Snapshot(folder, writes)
        if is_copied:
            return snapshot
        return Snapshot(snapshot.write())

    def reserve(self, folder: Path) -> None:
        """Allocate the memory for snapshots in a thread, so that the first one is not slower.

        Every rank calls it after the same step, when the optimizer has allocated all its state.
        Only the first call has an effect.

        Args:
            folder: A folder to use in the meantime; it is deleted again.
        """
        if self._is_reserved:
            return
        self._is_reserved = True
        folder.mkdir(parents=True)
        is_sharded = seams.is_sharded(self._trainer)
        contents = [
            *self._states(folder).values(),
            None if is_sharded else seams.published_weights(self._trainer),
        ]
        shutil.rmtree(folder)
        if self._fits(contents):
            self._memory.reserve(contents)

    def _states(self, folder: Path) -> dict[Path, Any]:
        """Return what goes into which file, uncopied; DeepSpeed's states hold the parameters."""
        states: dict[Path, Any] = {}
        with seams.states_instead_of_files(self._trainer, states):
            seams.save_optimizer_and_scheduler(self._trainer, folder)
        return states

    def _fits(self, contents: Any) -> bool:
        limit = free_bytes_for_a_rank() if self._copy_bytes is None else self._copy_bytes
        return self._memory.bytes_lacking(contents) <= limit


def free_bytes_for_a_rank() -> int:
    """Return the host memory that each rank of this node may still allocate."""
    import psutil

    free = psutil.virtual_memory().available
    group = ControlGroup()
    limit, used = group.memory_limit_bytes(), group.read().get("memory_bytes")
    if limit is not None and used is not None:
        free = min(free, limit - int(used))
    return int(free * (1 - _SPARE)) // ranks_on_this_node()


def _write_state(path: Path, state: Any) -> Callable[[], None]:
    import torch

    return lambda: torch.save(state, path)


class _HostMemory:
    """Copies of tensors, in buffers that are kept from one snapshot to the next.

    Why keep them: the first write to a page makes the kernel allocate and zero it, and pinning it
    for a GPU costs more still. Copying into pages that were written before is several times as
    fast, and training waits for the copy.
    """

    def __init__(self) -> None:
        # A list per kind, since many tensors share shape and type: any buffer of the kind will do.
        self._tensors: dict[tuple[Any, ...], list[torch.Tensor]] = {}
        self._reserving: threading.Thread | None = None

    def reserve(self, states: Any) -> None:
        """Allocate and touch the buffers that a copy of the states needs, in a thread."""
        tensors = list(_tensors_of(states).values())
        self._reserving = threading.Thread(target=self._touch, args=(tensors,))
        self._reserving.start()

    def bytes_lacking(self, states: Any) -> int:
        """Return the bytes that a copy would need besides the buffers that are kept."""
        self._wait()
        kept = sum(tensor.nbytes for tensors in self._tensors.values() for tensor in tensors)
        return sum(tensor.nbytes for tensor in _tensors_of(states).values()) - kept

    def copy(self, states: Any) -> Any:
        """Return a deep copy, which invalidates the one before. Shared tensors stay shared."""
        import torch

        spare, self._tensors = self._tensors, defaultdict(list)
        # By place, not by object: tied weights are several objects over the same storage. They
        # have to stay one in the copy, or the file would grow and loading would untie them.
        copies: dict[tuple[Any, ...], torch.Tensor] = {}
        for key, tensor in _tensors_of(states).items():
            alike = spare.get(_kind(tensor))
            host = alike.pop() if alike else _empty_like(tensor)
            copies[key] = host.copy_(tensor.detach(), non_blocking=True)
            self._tensors[_kind(tensor)].append(host)
        if torch.cuda.is_available():
            # The copies were only queued so far, and another thread reads them next.
            torch.cuda.synchronize()
        return seams.map_leaves(
            lambda leaf: (
                copies[_place(leaf)] if isinstance(leaf, torch.Tensor) else copy.deepcopy(leaf)
            ),
            states,
        )

    def _touch(self, tensors: "list[torch.Tensor]") -> None:
        for tensor in tensors:
            self._tensors.setdefault(_kind(tensor), []).append(_empty_like(tensor).zero_())

    def _wait(self) -> None:
        if self._reserving:
            self._reserving.join()
            self._reserving = None


def _empty_like(tensor: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)


def _tensors_of(states: Any) -> "dict[tuple[Any, ...], torch.Tensor]":
    """Return every tensor of the states once, by its place in memory."""
    import torch

    return {_place(leaf): leaf for leaf in seams.leaves(states) if isinstance(leaf, torch.Tensor)}


def _place(tensor: "torch.Tensor") -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _kind(tensor: "torch.Tensor") -> tuple[Any, ...]:
    return tensor.shape, tensor.dtype, tensor.is_cuda
