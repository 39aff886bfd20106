"""The state of a training after a step: copied to host memory, and written to files while the training goes on.

A rank's snapshot holds what this rank writes of a checkpoint, with the paths that the Trainer and
DeepSpeed use, and knows nothing of the other ranks' files. The same memory is used again for the
next one.
"""

import copy
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dolly_assets.hardware.control_group import ControlGroup
from dolly_assets.training.process_group import ranks_here

if TYPE_CHECKING:
    import torch
    from transformers import Trainer

# Of the memory that is free, what is left to the training that goes on.
_SPARE = 0.25


@dataclass(frozen=True)
class Snapshot:
    """One rank's part of a checkpoint folder. The folder is this rank's alone."""

    folder: Path
    _writes: Sequence[Callable[[], None]] = ()

    @property
    def in_memory(self) -> bool:
        """Whether `write` has anything to do: else all was written while the training waited."""
        return bool(self._writes)

    def write(self) -> Path:
        """Writes the files, in any thread; returns the folder.

        Its memory may then be used again.
        """
        for write in self._writes:
            write()
        return self.folder


class Snapshots:
    """Takes snapshots of one rank of a training.

    Args:
        trainer: Its engine is DeepSpeed's.
        copy_bytes: Host memory that it may take for them; what is free when it is needed, if None.
    """

    def __init__(self, trainer: "Trainer", copy_bytes: int | None = None) -> None:
        self._trainer, self._copy_bytes = trainer, copy_bytes
        self._memory, self._is_reserved = _HostMemory(), False

    def take(self, folder: Path, *, weights: bool) -> Snapshot:
        """The state that going on needs and, if asked for, the weights for others to load.

        Every rank calls it after the same step, and not before its last snapshot was written. Where
        host memory is too small for a copy, the files are written here and now.
        """
        trainer = self._trainer
        folder.mkdir(parents=True)
        states = self._states(folder)
        trainer._save_scaler(str(folder))
        trainer._save_rng_state(str(folder))
        if trainer.args.should_save:
            trainer.state.save_to_json(str(folder / "trainer_state.json"))
        contents = [*states.values(), _weights(trainer) if weights else None]
        is_copied = self._fits(contents)
        if is_copied:
            contents = self._memory.copy(contents)
        writes = [_write_state(path, state) for path, state in zip(states, contents, strict=False)]
        if weights:
            writes.append(lambda: trainer._save(str(folder), contents[-1]))
        snapshot = Snapshot(folder, writes)
        if is_copied:
            return snapshot
        return Snapshot(snapshot.write())

    def reserve(self, folder: Path) -> None:
        """Takes the memory for snapshots in a thread, so that the first one waits no longer than the others.

        Every rank calls it after the same step, when the optimizer has all that it will have; only
        the first call does anything. The folder is used meanwhile.
        """
        if self._is_reserved:
            return
        self._is_reserved = True
        folder.mkdir(parents=True)
        contents = [
            *self._states(folder).values(),
            None if _is_sharded(self._trainer) else _weights(self._trainer),
        ]
        shutil.rmtree(folder)
        if self._fits(contents):
            self._memory.reserve(contents)

    def _states(self, folder: Path) -> dict[Path, Any]:
        """What goes into which file, as it is; with DeepSpeed, the parameters are in it too."""
        states: dict[Path, Any] = {}
        with _handing_over(self._trainer, states):
            self._trainer._save_optimizer_and_scheduler(str(folder))
        return states

    def _fits(self, contents: Any) -> bool:
        limit = free_bytes_for_a_rank() if self._copy_bytes is None else self._copy_bytes
        return self._memory.bytes_lacking(contents) <= limit


def free_bytes_for_a_rank() -> int:
    """Host memory that each rank of this machine may still take without pressing the others."""
    import psutil

    free = psutil.virtual_memory().available
    group = ControlGroup()
    limit, used = group.memory_limit_bytes(), group.read().get("memory_bytes")
    if limit is not None and used is not None:
        free = min(free, limit - int(used))
    return int(free * (1 - _SPARE)) // ranks_here()


@contextmanager
def _handing_over(trainer: "Trainer", states: dict[Path, Any]) -> Iterator[None]:
    """What DeepSpeed saves meanwhile is put here, as it is."""
    from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine

    class HandingOver(TorchCheckpointEngine):
        def save(self, state_dict: Any, path: str) -> None:
            states[Path(path)] = state_dict

    engine: Any = trainer.model_wrapped
    before, engine.checkpoint_engine = engine.checkpoint_engine, HandingOver()
    try:
        yield
    finally:
        engine.checkpoint_engine = before


def _weights(trainer: "Trainer") -> Any:
    """The weights that are published, on rank 0 at least; a collective operation where they are sharded."""
    from peft import PeftModel

    engine: Any = trainer.model_wrapped
    is_adapter = isinstance(engine.module, PeftModel)
    if _is_sharded(trainer):
        return engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=is_adapter)
    return (
        engine.module_state_dict(exclude_frozen_parameters=is_adapter)
        if trainer.args.should_save
        else None
    )


def _is_sharded(trainer: "Trainer") -> bool:
    """Whether no rank holds the whole model."""
    engine: Any = trainer.model_wrapped
    return engine.zero_optimization_partition_weights()


def _write_state(path: Path, state: Any) -> Callable[[], None]:
    import torch

    return lambda: torch.save(state, path)


class _HostMemory:
    """Copies of tensors, in memory that is kept: pages that were touched before are several times as fast."""

    def __init__(self) -> None:
        self._tensors: dict[tuple[Any, ...], list[torch.Tensor]] = {}
        self._reserving: threading.Thread | None = None

    def reserve(self, states: Any) -> None:
        """Takes and touches what a copy of them would take, in a thread."""
        tensors = list(_tensors_of(states).values())
        self._reserving = threading.Thread(target=self._touch, args=(tensors,))
        self._reserving.start()

    def bytes_lacking(self, states: Any) -> int:
        """Bytes that a copy would take in addition to those that are kept."""
        self._wait()
        kept = sum(tensor.nbytes for tensors in self._tensors.values() for tensor in tensors)
        return sum(tensor.nbytes for tensor in _tensors_of(states).values()) - kept

    def copy(self, states: Any) -> Any:
        """A deep copy. It ends the use of the one before. Tensors that are one stay one."""
        import torch
        from torch.utils._pytree import tree_map

        spare, self._tensors = self._tensors, defaultdict(list)
        copies: dict[tuple[Any, ...], torch.Tensor] = {}
        for key, tensor in _tensors_of(states).items():
            alike = spare.get(_kind(tensor))
            host = alike.pop() if alike else _empty_like(tensor)
            copies[key] = host.copy_(tensor.detach(), non_blocking=True)
            self._tensors[_kind(tensor)].append(host)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return tree_map(
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
    """Every tensor in them once, by where it lies."""
    import torch
    from torch.utils._pytree import tree_leaves

    return {_place(leaf): leaf for leaf in tree_leaves(states) if isinstance(leaf, torch.Tensor)}


def _place(tensor: "torch.Tensor") -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _kind(tensor: "torch.Tensor") -> tuple[Any, ...]:
    return tensor.shape, tensor.dtype, tensor.is_cuda
