"""What a training that was killed, or failed, left of its profile, published as interrupted.

From what is on this machine's disk, which lacks at most the last sampling interval; or, where that
is lost with the machine, from the live report in the store, which lacks what came after its last
refresh.
"""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.text import date_and_time, one_line
from dolly_assets.profiling.analysis.summary import SUMMARY_FILE, ReportSummary
from dolly_assets.profiling.analysis.verdict import interruption_sentence
from dolly_assets.profiling.record.sampler import SAMPLES_FILE
from dolly_assets.profiling.report import REPORT_FILE
from dolly_assets.profiling.series.samples import last_sample_at
from dolly_assets.profiling.series.spans import EpochSpan, read_spans
from dolly_assets.profiling.series.steplog import read_steps, step_files
from dolly_assets.registry.attributes import ProfileAttributes
from dolly_assets.registry.kinds import GPU_PROFILE, INTERRUPTED_PROFILE, TOKENIZED_DATASET
from dolly_assets.registry.queries import history
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.profiles.live import (
    LiveReport,
    LiveState,
    left_behind,
    with_state,
    write_state,
)
from dolly_assets.worker.profiles.profile_publisher import (
    ProfilePublisher,
    ProfileRequest,
    profile_dir,
)
from dolly_assets.worker.spec import Train, WorkerSpec

logger = logging.getLogger(__name__)

# Without a refresh, before a live report counts as left behind by a run that nobody knows.
DEAD_SECONDS = 300.0


def recover_profiles(
    spec: WorkerSpec[Train], store: ArtifactStore, log: Callable[[str], None]
) -> list[Artifact]:
    """Publish a profile of each epoch of an ended training that has none, from this machine's disk.

    An epoch without a step gets none: there is nothing to report.
    """
    folder, profiles = profile_dir(spec), ProfilePublisher(spec, store, log)
    last_at = last_sample_at(folder / SAMPLES_FILE)
    recovered = []
    for span in read_spans(folder):
        if last_at is None:
            break
        request = _request(spec, span, last_at, folder)
        if request and not _is_published(spec, store, profiles, span.epoch):
            recovered.append(profiles.publish(request))
    if folder.is_dir():
        LiveReport(spec).end()
    return recovered


def recover_profiles_from_store(
    store: ArtifactStore,
    objects: ObjectStore,
    family: str,
    dataset: str,
    has_ended: Callable[[LiveState], bool],
) -> list[Artifact]:
    """Publish the live reports of runs that ended without publishing their profiles.

    Args:
        store: Where profiles are published.
        objects: The same store, as objects.
        family: Whose runs.
        dataset: Of the runs.
        has_ended: Tells whether the run of a live report has ended.
    """
    recovered = []
    for state in left_behind(objects, family, dataset):
        if has_ended(state):
            try:
                recovered.append(_from_live(store, objects, state))
            except (ArtifactError, ValueError) as error:  # a damaged one must not stop the next run
                logger.warning("no profile from %s: %s", state.folder, one_line(error))
                continue
            write_state(objects, state.model_copy(update={"ended": True}))
    return recovered


def _request(
    spec: WorkerSpec[Train], span: EpochSpan, last_at: float, folder: Path
) -> ProfileRequest | None:
    ended_at = span.ended_at or last_at
    steps = read_steps(folder, span.started_at, ended_at)
    if not steps.num_rows:
        return None
    last_step = max(steps["step"].to_pylist())
    what = "while the epoch was saved and published" if span.ended_at else f"after step {last_step}"
    return ProfileRequest(
        epoch=span.epoch,
        started_at=span.started_at,
        ended_at=ended_at,
        attributes={
            "epoch": span.epoch,
            "training": spec.task.training,
            "ranks": len(step_files(folder)),
        },
        interrupted=f"the training ended at {date_and_time(last_at)} UTC, {what}",
    )


def _is_published(
    spec: WorkerSpec[Train], store: ArtifactStore, profiles: ProfilePublisher, epoch: int
) -> bool:
    """Return whether this very run has published a profile of the epoch."""
    made = [
        item
        for kind in (GPU_PROFILE, INTERRUPTED_PROFILE)
        for item in history(store, profiles.address(epoch, kind))
    ]
    return any(item.manifest.made_by == spec.made_by for item in made)


def _from_live(store: ArtifactStore, objects: ObjectStore, state: LiveState) -> Artifact:
    refreshed_at = date_and_time(state.refreshed_at)
    interrupted = f"the training ended after {refreshed_at} UTC, the last refresh of this report"
    sentence = interruption_sentence(interrupted)
    page = objects.read_all(f"{state.folder}/{REPORT_FILE}").decode()
    live = ReportSummary.model_validate_json(objects.read_all(f"{state.folder}/{SUMMARY_FILE}"))
    summary = live.model_copy(
        update={"interrupted": interrupted, "verdict": sentence + live.verdict}
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / REPORT_FILE).write_text(with_state(page, sentence), encoding="utf-8")
        (folder / SUMMARY_FILE).write_text(
            summary.model_dump_json(indent=2) + "\n", encoding="utf-8"
        )
        return store.publish(
            INTERRUPTED_PROFILE.address(state.family, state.dataset, state.epoch).name,
            folder,
            kind=INTERRUPTED_PROFILE.name,
            descriptions=INTERRUPTED_PROFILE.descriptions,
            inputs={
                TOKENIZED_DATASET.address(state.family, state.dataset).name: state.tokenized_dataset
            },
            attributes=ProfileAttributes.model_validate(
                {**summary.figures(), "epoch": state.epoch, "training": state.training}
            ).as_json(),
            made_by=state.made_by,
        )
