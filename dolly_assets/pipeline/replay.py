"""Trains a published epoch again from its digest, and compares what comes out with the original.

Inputs are those of the manifest, by digest; the recipe is the recorded one, and training resumes
from the state of the epoch before. Everything happens in a scratch store: nothing is published. It
runs the worker on this machine, without Dagster.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ArtifactError, TrainingError, some_of
from dolly_assets.core.text import count
from dolly_assets.family import ModelFamily
from dolly_assets.hardware.visible_gpus import visible_devices
from dolly_assets.launchers.local import LocalLauncher
from dolly_assets.planning.prices import Prices
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import CheckpointAttributes, ProfileAttributes
from dolly_assets.registry.inputs import input_digest, required_digest
from dolly_assets.registry.kinds import BASE_MODEL, MODEL_CHECKPOINT, TOKENIZED_DATASET, AssetKind
from dolly_assets.registry.lineage import Lineage
from dolly_assets.registry.training import Training, held_out_losses
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.training.recipe import Recipe
from dolly_assets.worker.messages import Log, Message
from dolly_assets.worker.spec import Train, WorkerSpec, ref

_MODEL = ("weights/", "adapter/")


@dataclass(frozen=True)
class Replay:
    """What came out of a replay.

    Attributes:
        original: The published checkpoint.
        files: How many files of the model were compared.
        differing: Those whose hashes differ, or that one side lacks.
        tensors: The tensors that differ, with the largest difference of a value.
        state: Files of the training state that differ.
    """

    original: Artifact
    files: int
    differing: tuple[str, ...]
    tensors: dict[str, float]
    state: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Whether the model is equal, in one sentence; else what differs."""
        epoch = f"epoch {CheckpointAttributes.of(self.original).epoch}"
        if not self.differing:
            state = (
                f"; of the training state differ {some_of(self.state)}"
                if self.state
                else (", and so is the training state")
            )
            files = count(self.files, "file")
            return f"equal: {epoch} gave the same model again, {files} by SHA-256{state}"
        shown = some_of([f"{name} (by up to {gap:.3g})" for name, gap in self.tensors.items()])
        what = f"tensors {shown}" if self.tensors else f"files {some_of(self.differing)}"
        return f"different: {epoch} gave another model: {what}"


def replay(
    environment: Environment,
    store: ArtifactStore,
    family: ModelFamily,
    checkpoint: Artifact,
    on_log: Callable[[str], None],
) -> Replay:
    """Train an epoch again, and compare.

    Args:
        environment: Where there is room to work.
        store: Where the epoch and its inputs are; it is only read.
        family: The epoch's family as it is declared now. The recipe is the recorded one.
        checkpoint: The epoch.
        on_log: Called with each line that the worker reports.

    Raises:
        TrainingError: It cannot be replayed here; the text states why.
        DollyError: The training fails.
    """
    inputs = _Inputs.of(store, checkpoint)
    family = _as_recorded(store, family, checkpoint, inputs)
    folder = environment.scratch_dir
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="replay-") as scratch:
        copy = ArtifactStore(str(Path(scratch) / "store"), environment.cache_dir)
        for artifact in filter(None, (inputs.base_model, inputs.tokenized, inputs.before)):
            _copy(artifact, copy)
        spec = WorkerSpec(
            family=family,
            task=_task(store, checkpoint, inputs),
            store_url=copy.url,
            cache_dir=environment.cache_dir,
            scratch_dir=Path(scratch) / "work",
            made_by={"tool": "dolly verify --replay"},
        )

        def receive(message: Message) -> None:
            if isinstance(message, Log):
                on_log(message.text)

        LocalLauncher().run(spec, receive)
        again = copy.latest(checkpoint.name)
        if again is None:
            raise TrainingError(f"the replay of {checkpoint.name} published nothing")
        return _compared(checkpoint, again)


@dataclass(frozen=True)
class _Inputs:
    """What an epoch was trained from."""

    base_model: Artifact
    tokenized: Artifact
    before: Artifact | None

    @classmethod
    def of(cls, store: ArtifactStore, checkpoint: Artifact) -> "_Inputs":
        """Find it by the digests of the manifest.

        Raises:
            TrainingError: Something is gone, or the checkpoint is no epoch.
        """
        at, stated = ArtifactAddress.parse(checkpoint.name), CheckpointAttributes.of(checkpoint)
        if checkpoint.manifest.kind != MODEL_CHECKPOINT.name or not stated.epoch:
            raise TrainingError(
                f"{checkpoint.name} was not trained, so nothing can be replayed: name an epoch "
                "from 1, as MODEL/DATASET/EPOCH"
            )

        def found(kind: AssetKind, epoch: int | None = None) -> Artifact:
            address = kind.address(at.family, at.dataset, epoch)
            return store.get(address.name, required_digest(checkpoint, kind))

        with _explained(checkpoint):
            before = None
            if stated.epoch > 1 and input_digest(checkpoint, MODEL_CHECKPOINT):
                before = found(MODEL_CHECKPOINT, stated.epoch - 1)
                before.fetch("state")
            return cls(found(BASE_MODEL), found(TOKENIZED_DATASET), before)


def _as_recorded(
    store: ArtifactStore, family: ModelFamily, checkpoint: Artifact, inputs: _Inputs
) -> ModelFamily:
    """Return the family with the recorded recipe and ranks.

    Raises:
        TrainingError: This machine or this version would train something else.
    """
    stated = CheckpointAttributes.of(checkpoint)
    at = ArtifactAddress.parse(checkpoint.name)
    if why := _other_hardware(store, checkpoint, stated.ranks):
        raise TrainingError(f"{checkpoint.name} cannot be replayed here: {why}")
    ranks = stated.ranks or 1
    with _explained(checkpoint):
        changed = {"nodes": 1, "gpus": len(visible_devices()) and ranks, "cpu_ranks": ranks}
        found = family.model_copy(
            update={
                "recipe": Recipe.model_validate(stated.recipe),
                "compute": family.compute.model_copy(update=changed),
            }
        )
    training = Training(found, at.dataset, inputs.base_model, inputs.tokenized)
    if training.digest != stated.training:
        raise TrainingError(
            f"{checkpoint.name} cannot be replayed here: from its recipe and inputs this version "
            "makes another training; install the version of dolly_assets that trained it, "
            f"{checkpoint.manifest.made_by.get('dolly_assets', 'which is not recorded')}"
        )
    return found


def _other_hardware(store: ArtifactStore, checkpoint: Artifact, ranks: int | None) -> str | None:
    """Return why this machine would compute otherwise; None if nothing is known against it."""
    found = Lineage(store, checkpoint).profile_of(checkpoint)
    profile = ProfileAttributes.of(found) if found else None
    if ranks is None or profile is None or profile.device_kind is None:
        return "it is not recorded on which devices, and on how many ranks, it was trained"
    here = [device.name for device in visible_devices() for _ in range(device.cuda_device_count)]
    if profile.device_kind == "cpu":
        return (
            f"it was trained on {count(ranks, 'CPU rank')}, and this machine trains on "
            f"{some_of(here)}: set CUDA_VISIBLE_DEVICES to nothing"
            if here
            else None
        )
    if len(here) < ranks or {*here} != {*profile.device_names}:
        trained_on = some_of(sorted({*profile.device_names})) or "GPUs"
        return (
            f"it was trained on {ranks} × {trained_on}, and this machine has "
            f"{len(here)} × {some_of(sorted({*here}))}"
        )
    return None


def _task(store: ArtifactStore, checkpoint: Artifact, inputs: _Inputs) -> Train:
    stated = CheckpointAttributes.of(checkpoint)
    earlier = [
        each for each in Lineage(store, checkpoint).ancestors if each.digest != checkpoint.digest
    ]
    return Train(
        dataset=ArtifactAddress.parse(checkpoint.name).dataset,
        epochs=(stated.epoch,),
        base_model=ref(inputs.base_model),
        tokenized_dataset=ref(inputs.tokenized),
        resume_from=ref(inputs.before) if inputs.before else None,
        held_out_losses=held_out_losses(earlier),
        training=stated.training or "",
        prices=Prices.read(),
    )


def _copy(artifact: Artifact, store: ArtifactStore) -> None:
    """Publish an artifact in the scratch store, with the same digest."""
    manifest = artifact.manifest
    store.publish(
        artifact.name,
        {entry.path: artifact.local_file(entry.path) for entry in manifest.files},
        descriptions=[entry.path for entry in manifest.files if entry.is_description],
        kind=manifest.kind,
        inputs=manifest.inputs,
        attributes=manifest.attributes,
        made_by=manifest.made_by,
    )


def _compared(original: Artifact, again: Artifact) -> Replay:
    model, state = _hashes(original, _MODEL), _hashes(original, ("state/",))
    differing = _different(model, _hashes(again, _MODEL))
    return Replay(
        original,
        len(model),
        differing,
        {
            name: gap
            for path in differing
            if path.endswith(".safetensors") and original.holds(path) and again.holds(path)
            for name, gap in _tensor_gaps(original.local_file(path), again.local_file(path)).items()
        },
        _different(state, _hashes(again, ("state/",))),
    )


def _hashes(artifact: Artifact, folders: tuple[str, ...]) -> dict[str, str]:
    files = artifact.manifest.files
    return {entry.path: entry.sha256 for entry in files if entry.path.startswith(folders)}


def _different(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    paths = sorted(before.keys() | after.keys())
    return tuple(path for path in paths if before.get(path) != after.get(path))


def _tensor_gaps(before: Path, after: Path) -> dict[str, float]:
    """Return the tensors of two files that differ, with the largest difference of a value."""
    import torch
    from safetensors import safe_open

    gaps = {}
    with safe_open(before, "pt") as old, safe_open(after, "pt") as new:
        for name in sorted({*old.keys(), *new.keys()}):
            if name not in old.keys() or name not in new.keys():  # noqa: SIM118 not a mapping
                gaps[name] = float("inf")
                continue
            left, right = old.get_tensor(name), new.get_tensor(name)
            if left.shape != right.shape:
                gaps[name] = float("inf")
            elif not torch.equal(left, right):
                gaps[name] = float((left.double() - right.double()).abs().max())
    return gaps


@contextlib.contextmanager
def _explained(checkpoint: Artifact) -> Iterator[None]:
    try:
        yield
    except (ArtifactError, ValueError) as error:
        raise TrainingError(f"{checkpoint.name} cannot be replayed here: {error}") from error
