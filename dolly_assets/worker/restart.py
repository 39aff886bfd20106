"""What is left of a task when a cluster restarts its worker with the original spec.

It knows artifacts, not the cluster.
"""

from collections.abc import Sequence

from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import GPU_PROFILE, MODEL_CHECKPOINT, TRAINING_STATE
from dolly_assets.registry.queries import history, training_of
from dolly_assets.registry.training import held_out_losses
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.spec import Train, WorkerSpec, ref


def published_since(spec: WorkerSpec[Train], store: ArtifactStore) -> list[Artifact]:
    """Return profile and checkpoint of each epoch that earlier pods of this run have published.

    They are in order, up to the first epoch that lacks one of the two.
    """
    task, found = spec.task, []
    for epoch in task.epochs:
        pair = [
            _newest(spec, store, kind.address(spec.family.name, task.dataset, epoch))
            for kind in (GPU_PROFILE, MODEL_CHECKPOINT)
        ]
        if None in pair:
            break
        found += [artifact for artifact in pair if artifact]
    return found


def left_to_train(
    spec: WorkerSpec[Train], store: ArtifactStore, published: Sequence[Artifact]
) -> WorkerSpec[Train] | None:
    """Return the spec of what is left to train; None if nothing is.

    Args:
        spec: The original spec.
        store: The store.
        published: What `published_since` has returned.
    """
    task = spec.task
    left = task.epochs[len(published) // 2 :]
    losses = {**task.held_out_losses, **held_out_losses(published)}
    rule = spec.family.recipe.early_stopping
    if not left or (rule and rule.verdict(losses)):
        return None
    checkpoint = published[-1] if published and left[0] > 1 else None
    resume_from = ref(checkpoint) if checkpoint else task.resume_from
    state = _newest(
        spec, store, TRAINING_STATE.address(spec.family.name, task.dataset), max(1, left[0])
    )
    begun = ref(state) if state else (None if checkpoint else task.state)
    changes = {"resume_from": resume_from, "state": begun, "held_out_losses": losses}
    task = task.model_copy(update={"epochs": left, **changes})
    return spec.model_copy(update={"task": task})


def _newest(
    spec: WorkerSpec[Train],
    store: ArtifactStore,
    address: ArtifactAddress,
    epoch: int | None = None,
) -> Artifact | None:
    """Return the newest artifact of this training by this run; with `epoch`, of that epoch."""
    for item in history(store, address):
        is_ours = item.manifest.made_by == spec.made_by and training_of(item) == spec.task.training
        if is_ours and epoch in (None, item.manifest.attributes.get("epoch")):
            return item
    return None
