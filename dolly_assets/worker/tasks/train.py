"""The training task: fine-tunes over a range of epochs; each is published while the next trains."""

from dolly_assets.core.errors import TrainingStopped
from dolly_assets.registry.attributes import (
    BaseModelAttributes,
    CheckpointAttributes,
    TrainingStateAttributes,
)
from dolly_assets.registry.kinds import TRAINING_STATE
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.tokenization.tokenized_dataset import HELD_OUT_FILE
from dolly_assets.training.checkpoint import layout
from dolly_assets.training.loop.fine_tune import fine_tune
from dolly_assets.training.loop.request import FineTuneRequest
from dolly_assets.training.loop.stop import StopRequest
from dolly_assets.training.process_group import leave_other_ranks, rank_and_size
from dolly_assets.worker.checkpoint_publisher import EpochPublisher
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.preflight import preflight
from dolly_assets.worker.profiles.profile_publisher import profile_dir
from dolly_assets.worker.restart import left_to_train, published_since
from dolly_assets.worker.spec import Train, WorkerSpec
from dolly_assets.worker.training_data import TrainingData


def train(
    spec: WorkerSpec[Train], store: ArtifactStore, messenger: Messenger, stop: StopRequest
) -> None:
    """Train on this rank; rank 0 also samples the devices and publishes.

    Raises:
        TrainingStopped: The worker was asked to stop, and has published its state.
    """
    if spec.is_restartable:
        published = published_since(spec, store)
        for artifact in published:  # an earlier launcher may have missed them
            messenger.emit_published_again(artifact)
        left = left_to_train(spec, store, published)
        if left is None:
            return
        spec = left
    task = spec.task
    base_model = store.get(task.base_model.name, task.base_model.digest)
    preflight(spec, base_model, messenger)
    tokenized = store.get(task.tokenized_dataset.name, task.tokenized_dataset.digest)
    stopped: TrainingStopped | None = None
    data = TrainingData(tokenized)
    with EpochPublisher(spec, store, messenger, base_model, data) as publisher:
        if task.epochs[-1] == 0:
            publisher.publish_base()
            return
        try:
            fine_tune(_job(spec, store, base_model, tokenized, data), publisher, stop)
        except TrainingStopped as reason:
            stopped = reason
    leave_other_ranks()  # at the same time: torchrun ends ranks that are left behind
    if stopped:
        raise stopped


def _job(
    spec: WorkerSpec[Train],
    store: ArtifactStore,
    base_model: Artifact,
    tokenized: Artifact,
    data: TrainingData,
) -> FineTuneRequest:
    """Return what to train on this machine."""
    task, compute = spec.task, spec.family.compute
    rank, ranks = rank_and_size()
    resume_from, saved_ranks = None, ranks
    if start := task.state or task.resume_from:
        state = store.get(start.name, start.digest)
        saved_ranks = _ranks_of(state)
        # DeepSpeed 0.19 loses Adam's step count, and does not convert states without the frozen
        # weights.
        if saved_ranks != ranks and (spec.family.recipe.zero_stage == 3 or spec.family.recipe.lora):
            layout.check_ranks(saved_ranks, ranks)
        resume_from = layout.join(
            state.fetch("state"), spec.scratch_dir / f"resume-{rank}", ranks=saved_ranks
        )
    return FineTuneRequest(
        recipe=spec.family.recipe,
        weights=base_model.fetch("weights"),
        train=data.table(),
        first_epoch=max(1, task.epochs[0]),
        last_epoch=task.epochs[-1],
        scratch=spec.scratch_dir / "trainer",
        resume_from=resume_from,
        resume_ranks=saved_ranks if saved_ranks != ranks else None,
        profile_dir=profile_dir(spec),
        save_seconds=60 * compute.save_minutes,
        special_tokens=_added_tokens(spec, base_model),
        hang_seconds=60 * compute.hang_minutes,
        held_out=tokenized.read_table(HELD_OUT_FILE) if spec.family.recipe.early_stopping else None,
        held_out_losses=task.held_out_losses,
    )


def _added_tokens(spec: WorkerSpec[Train], base_model: Artifact) -> tuple[str, ...]:
    """Return the tokens that may be new to the base model: those of its template."""
    prepared = BaseModelAttributes.of(base_model)
    if prepared.template == "dolly":
        return spec.family.prompt_style.special_tokens
    return tuple(prepared.new_tokens or ())


def _ranks_of(state: Artifact) -> int:
    """Return how many ranks saved a training state, or the state of an epoch's checkpoint."""
    if state.manifest.kind == TRAINING_STATE.name:
        return TrainingStateAttributes.of(state).ranks
    return CheckpointAttributes.of(state).ranks or 1
