"""Writes and publishes each epoch of a training on a thread of its own while the next one trains.

Every rank uploads its own files; rank 0 commits them when all have done so. Of each epoch the
profile is published first and the checkpoint last: an epoch that is in the store has its profile
there too. How epochs are trained it doesn't know.
"""

import math
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import pyarrow.parquet as pq
from pydantic import JsonValue

from dolly_assets.core.names import epoch_key
from dolly_assets.profiling.analysis.step_figures import EpochTotals
from dolly_assets.registry.attributes import CheckpointAttributes, TrainingStateAttributes
from dolly_assets.registry.kinds import KINDS, MODEL_CHECKPOINT, RECORD_LOSSES_FILE, TRAINING_STATE
from dolly_assets.scoring.record_losses import of_records
from dolly_assets.storage.artifact import Artifact, ArtifactFields, ArtifactStore
from dolly_assets.storage.conventions import PICTURE_FILE
from dolly_assets.training.checkpoint import layout
from dolly_assets.training.checkpoint.snapshot import Snapshot
from dolly_assets.training.checkpoint.tensors import weights_sha256
from dolly_assets.training.loop.loss_curve import loss_curve_png
from dolly_assets.training.loop.observer import EpochResult, PartialState
from dolly_assets.training.lora import finish
from dolly_assets.training.process_group import rank_and_size
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.profiles.epoch_profiler import EpochProfiler, Span
from dolly_assets.worker.spec import Train, WorkerSpec, ref
from dolly_assets.worker.training_data import TrainingData

LEAST_GRACE_SECONDS = 30.0
# Assumed until saving was measured: master weights and two moments in 32 bits besides weights in
# 16, written to a slow disk and then to a slow store.
STATE_PER_WEIGHTS = 7
SLOW_BYTES_PER_SECOND = 25e6
# How long rank 0, after uploading its own files, waits for those of the other ranks.
OTHER_RANKS_SECONDS = 1800.0


class EpochPublisher:
    """Publishes epochs and their profiles on rank 0, and uploads their share on the other ranks.

    Args:
        spec: The training.
        store: Where to publish.
        messenger: Gets messages on what was published.
        base_model: The model that the training starts from.
        data: The training's data, checked for changes before an epoch is published.
    """

    def __init__(
        self,
        spec: WorkerSpec[Train],
        store: ArtifactStore,
        messenger: Messenger,
        base_model: Artifact,
        data: TrainingData,
    ) -> None:
        self._spec, self._task = spec, spec.task
        self._store, self._messenger, self._base_model, self._data = (
            store,
            messenger,
            base_model,
            data,
        )
        self._rank, self._ranks = rank_and_size()
        self._active = self._rank == 0
        self._process_id = ""
        self._profiler = EpochProfiler(spec, store, messenger)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._pending: Future[None] | None = None
        self._left_out: list[str] = []
        self._saving_seconds = STATE_PER_WEIGHTS * base_model.size_bytes / SLOW_BYTES_PER_SECOND
        self._recipe = spec.family.recipe.model_dump(mode="json")
        self._previous = self._task.resume_from

    def __enter__(self) -> Self:
        if self._active:
            self._profiler.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.make_room()  # also after an error: an epoch that ended is worth publishing
        finally:
            self._thread.shutdown()
            if self._active:
                self._profiler.__exit__(kind, error, trace)

    def on_start(self, process_id: str) -> None:
        """Note that the model is loaded and the first step is about to begin.

        Args:
            process_id: An id that all ranks of this training share.
        """
        self._process_id = process_id
        if self._active:
            self._profiler.loaded()
        if self._task.epochs[0] == 0:
            self.publish_base()

    def publish_base(self) -> None:
        """Publish the base model as epoch 0. Its profile covers the start-up."""
        if not self._active:
            return
        self._profiler.publish(0, self._profiler.end_span(), self._common_attributes(0))
        weights = [
            entry for entry in self._base_model.manifest.files if entry.path.startswith("weights/")
        ]
        artifact = self._store.commit(
            self._checkpoint_name(0),
            weights,
            kind=MODEL_CHECKPOINT.name,
            inputs=self._inputs(),
            attributes=CheckpointAttributes.model_validate(
                {
                    **self._common_attributes(0),
                    **self._task.attributes,
                    "weights_sha256": weights_sha256(self._base_model.fetch("weights")),
                }
            ).as_json(),
            made_by=self._spec.made_by,
        )
        self._messenger.emit_published(artifact)

    def make_room(self) -> None:
        """Return when what was handed over last is published."""
        if self._pending:
            pending, self._pending = self._pending, None
            pending.result()

    def on_epoch(self, result: EpochResult) -> None:
        """Write and publish the checkpoint of an epoch while the next one trains."""
        if not self._active:
            self._upload_later(result.snapshot, epoch_key(result.epoch))
            return
        self._profiler.mark("train", result.started_at, result.ended_at, epoch=result.epoch)
        self._profiler.mark("save", result.ended_at, time.time(), epoch=result.epoch)
        self._pending = self._thread.submit(self._publish, result, self._profiler.end_span())

    def on_state(self, state: PartialState) -> None:
        """Write and publish a state within an epoch while the epoch keeps training."""
        if not self._active:
            self._upload_later(state.snapshot, _part(state))
            return
        now = time.time()
        self._profiler.mark("save", now - state.saving_seconds, now, epoch=state.epoch)
        self._pending = self._thread.submit(self._publish_state, state)

    @property
    def wants_state(self) -> bool:
        """Whether this rank publishes, and is not publishing now."""
        return self._active and (self._pending is None or self._pending.done())

    def stopping(self, step_seconds: float) -> None:
        """Report that the training was asked to stop, and how long that takes.

        It is the duration of a step, and of saving and publishing as measured before.
        """
        self._messenger.emit_stopping(
            LEAST_GRACE_SECONDS + 3 * (step_seconds + self._saving_seconds)
        )

    def log(self, text: str) -> None:
        """Add a line to the run's log."""
        self._messenger.log(text)

    def failed(self, text: str) -> None:
        """Report the reason for which this process is about to end."""
        self._messenger.emit_failed(text, by_user=False)

    def _upload_later(self, snapshot: Snapshot, what: str) -> None:
        self._pending = self._thread.submit(self._upload, snapshot, what)

    def _upload(self, snapshot: Snapshot, what: str) -> None:
        """Upload the share of a rank other than 0."""
        tree = layout.split(snapshot.write())
        self._store.upload_rank(tree, attempt=self._attempt(what), rank=self._rank)
        shutil.rmtree(snapshot.folder)

    def _publish_all(
        self, name: str, tree: Mapping[str, Path], what: str, **fields: Unpack[ArtifactFields]
    ) -> Artifact:
        """Upload the share of rank 0, and commit those of all ranks."""
        descriptions = KINDS[fields["kind"]].descriptions
        if self._ranks == 1:
            return self._store.publish(name, tree, descriptions=descriptions, **fields)
        attempt = self._attempt(what)
        self._store.upload_rank(tree, attempt=attempt, rank=0, descriptions=descriptions)
        return self._store.commit_ranks(
            name, attempt=attempt, ranks=self._ranks, timeout_seconds=OTHER_RANKS_SECONDS, **fields
        )

    def _attempt(self, what: str) -> str:
        return f"{self._process_id}-{what}"

    def _publish(self, result: EpochResult, span: Span) -> None:
        begin = time.time()
        self._data.refuse_changes(result.epoch)
        self._profiler.publish(
            result.epoch, span, self._common_attributes(result.epoch), _totals(result)
        )
        folder = result.snapshot.write()
        if lora := self._spec.family.recipe.lora:
            finish(folder, self._base_model.fetch("weights"), merge=lora.merge)
        tree = {**layout.split(folder), **self._step_files(result)}
        self._log_left_out(folder)
        artifact = self._publish_all(
            self._checkpoint_name(result.epoch),
            tree,
            epoch_key(result.epoch),
            kind=MODEL_CHECKPOINT.name,
            inputs=self._inputs(),
            attributes=CheckpointAttributes.model_validate(
                {
                    **_epoch_attributes(result),
                    **self._common_attributes(result.epoch),
                    "recipe": self._recipe,
                    **self._task.attributes,
                    "weights_sha256": _weights_digest(tree),
                }
            ).as_json(),
            made_by=self._spec.made_by,
        )
        shutil.rmtree(result.snapshot.folder)
        self._previous = ref(artifact)
        self._saving_seconds = time.time() - result.ended_at
        self._profiler.mark("publish", begin, time.time(), epoch=result.epoch)
        self._messenger.emit_published(artifact)

    def _log_left_out(self, folder: Path) -> None:
        """Log which files of the checkpoint are not published, where that has changed."""
        left_out = layout.left_out(folder)
        if left_out and left_out != self._left_out:
            self._messenger.log(f"left out of published checkpoints: {', '.join(left_out)}")
        self._left_out = left_out

    def _publish_state(self, state: PartialState) -> None:
        begin = time.time()
        self._data.refuse_changes(state.epoch)
        self._publish_all(
            TRAINING_STATE.address(self._spec.family.name, self._task.dataset).name,
            layout.split(state.snapshot.write()),
            _part(state),
            kind=TRAINING_STATE.name,
            inputs=self._inputs(),
            attributes=TrainingStateAttributes.model_validate(
                {
                    **self._common_attributes(state.epoch),
                    "recipe": self._recipe,
                    "step": state.step,
                    "steps": state.steps,
                }
            ).as_json(),
            made_by=self._spec.made_by,
        )
        shutil.rmtree(state.snapshot.folder)
        self._saving_seconds = state.saving_seconds + time.time() - begin
        self._messenger.log(
            f"state saved at epoch {state.epoch}, step {state.step} of {state.steps}"
        )

    def _step_files(self, result: EpochResult) -> dict[str, Path]:
        """Write the epoch's steps and losses, and a picture; return path in the artifact -> file.

        An epoch without the losses of all its records, of which an earlier version trained a part,
        has no table of them.
        """
        folder = self._spec.scratch_dir / f"steps-{epoch_key(result.epoch)}"
        folder.mkdir()
        pq.write_table(result.steps, folder / "steps.parquet")
        (folder / PICTURE_FILE).write_bytes(loss_curve_png(result.steps))
        if set(result.losses["step"].to_pylist()) == set(result.steps["step"].to_pylist()):
            losses = of_records(result.losses, self._data.table()["record"])
            pq.write_table(losses, folder / RECORD_LOSSES_FILE, compression="zstd")
        return {file.name: file for file in folder.iterdir()}

    def _checkpoint_name(self, epoch: int) -> str:
        return MODEL_CHECKPOINT.address(self._spec.family.name, self._task.dataset, epoch).name

    def _inputs(self) -> dict[str, str]:
        """Return what an epoch is made from, the epoch before included."""
        made_from = (ref(self._base_model), self._task.tokenized_dataset, self._previous)
        return {each.name: each.digest for each in made_from if each}

    def _common_attributes(self, epoch: int) -> dict[str, JsonValue]:
        """Return the attributes that checkpoints, states and profiles share."""
        return {"epoch": epoch, "training": self._task.training, "ranks": self._ranks}


def _part(state: PartialState) -> str:
    return f"{epoch_key(state.epoch)}-{state.step}"


def _totals(result: EpochResult) -> EpochTotals:
    """Return what the profile copies, so that both report the same figures for an epoch."""
    return EpochTotals(
        real_tokens=result.real_tokens,
        flops=result.work.flops,
        training_seconds=result.training_seconds,
        saving_seconds=result.saving_seconds,
    )


def _held_out_loss(result: EpochResult) -> dict[str, JsonValue]:
    """Return the held-out loss, if early stopping asked for it and it is a number."""
    loss = result.held_out_loss
    return {} if loss is None or not math.isfinite(loss) else {"held_out_loss": loss}


def _epoch_attributes(result: EpochResult) -> dict[str, JsonValue]:
    last = result.steps.slice(result.steps.num_rows - 1).to_pylist()[0]
    grad_norm = last["grad_norm"]  # None where nobody measured it; a step that overflowed has none
    return {
        "loss": result.loss,
        **_held_out_loss(result),
        "learning_rate": last["learning_rate"],
        "grad_norm": None if grad_norm is None or not math.isfinite(grad_norm) else grad_norm,
        "steps": result.steps.num_rows,
        "real_tokens": result.real_tokens,
        "tokens_per_second": result.tokens_per_second,
        "training_seconds": result.training_seconds,
        "saving_seconds": result.saving_seconds,
        # Not every architecture's operations are known.
        "flops_per_second": result.work.flops / result.training_seconds or None,
        "mfu": result.utilization,
        **{
            name: value
            for name, value in asdict(result.work).items()
            if name not in ("real_tokens", "flops")
        },
        "peak_rank_memory_bytes": result.work.peak_rank_memory_bytes or None,
    }


def _weights_digest(tree: dict[str, Path]) -> str:
    """Return the digest of what was trained: of the adapter's tensors, if there is an adapter."""
    return weights_sha256(
        (tree.get("adapter/adapter_config.json") or tree["weights/config.json"]).parent
    )
