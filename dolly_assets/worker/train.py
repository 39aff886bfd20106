"""The training task: fine-tune over a range of epochs, and publish each one while the next one trains."""

import os
from pathlib import Path

from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.training import checkpoint
from dolly_assets.training.fine_tune import FineTune, fine_tune
from dolly_assets.worker.profiler import profile_dir
from dolly_assets.worker.publisher import EpochPublisher
from dolly_assets.worker.report import Report
from dolly_assets.worker.spec import Train, WorkerSpec


def train(spec: WorkerSpec, store: ArtifactStore, report: Report) -> None:
    """Every rank runs this; rank 0 samples the devices and publishes."""
    task = spec.task
    assert isinstance(task, Train)
    base_model = store.get(task.base_model.name, task.base_model.digest)
    tokenized = store.get(task.tokenized_dataset.name, task.tokenized_dataset.digest)
    resume_from = store.get(task.resume_from.name, task.resume_from.digest) if task.resume_from else None
    with EpochPublisher(spec, store, report, base_model) as publisher:
        job = _job(spec, base_model, tokenized, resume_from)
        if job is None:
            publisher.publish_base()
        else:
            fine_tune(job, on_start=publisher.on_start, on_epoch=publisher.on_epoch, log=report.log)


def _job(spec: WorkerSpec, base_model: Artifact, tokenized: Artifact, resume_from: Artifact | None) -> FineTune | None:
    """What to train on this machine; None where only the base model is asked for."""
    task = spec.task
    assert isinstance(task, Train)
    first, last = max(1, task.epochs[0]), task.epochs[-1]
    if last == 0:
        return None
    return FineTune(
        recipe=spec.family.recipe,
        weights=base_model.fetch("weights"),
        train=tokenized.read_table("train.arrow"),
        first_epoch=first,
        last_epoch=last,
        scratch=spec.scratch_dir / "trainer",
        profile_dir=profile_dir(spec),
        resume_from=_resume_folder(resume_from, spec.scratch_dir) if resume_from else None,
    )


def _resume_folder(artifact: Artifact, scratch: Path) -> Path:
    ranks, rank = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", "1"), ("RANK", "0")))
    checkpoint.check_ranks(int(str(artifact.manifest.attributes["ranks"])), ranks)  # before its gigabytes are fetched
    return checkpoint.join(artifact.fetch(), scratch / f"resume-{rank}", ranks=ranks)
