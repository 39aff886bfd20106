"""The report of a running training, in the store at `live/FAMILY/DATASET/RUN/`, refreshed in place.

`report.html` is the page, `summary.json` its numbers, `state.json` says whose they are. Artifacts
are immutable; this is not one. It stays after the training has ended, until garbage collection
deletes it.
"""

import logging
import re
import time
from datetime import UTC, datetime
from html import escape

from pydantic import Field, ValidationError

from dolly_assets.core.base import Config
from dolly_assets.core.text import one_line
from dolly_assets.profiling.analysis.summary import SUMMARY_FILE, ReportSummary
from dolly_assets.profiling.report import REPORT_FILE
from dolly_assets.storage.conventions import LIVE
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.profiles.profile_publisher import ProfileRequest
from dolly_assets.worker.spec import Train, WorkerSpec

logger = logging.getLogger(__name__)

STATE_FILE = "state.json"
LATEST = datetime.max.replace(tzinfo=UTC).timestamp()


class LiveState(Config):
    """Whose live report it is."""

    family: str = Field(description="Model family that is trained.")
    dataset: str = Field(description="Dataset that it is trained on.")
    run_id: str = Field(description="Run of the orchestrator.")
    training: str = Field(description="Digest of what determines the weights.")
    tokenized_dataset: str = Field(description="Digest of the tokenized dataset.")
    epoch: int = Field(description="Epoch that is trained.")
    started_at: float = Field(
        ge=0, lt=LATEST, description="Start of the epoch's profile, in UTC epoch seconds."
    )
    refreshed_at: float = Field(ge=0, lt=LATEST, description="Last refresh, in UTC epoch seconds.")
    ended: bool = Field(
        default=False, description="Whether everything it showed was published as profiles."
    )
    made_by: dict[str, str] = Field(description="What the run's artifacts record of their origin.")

    @property
    def seconds_since_refresh(self) -> float:
        """Seconds since the last refresh, by this machine's clock."""
        return time.time() - self.refreshed_at

    @property
    def folder(self) -> str:
        """Key prefix of its objects."""
        return live_folder(self.family, self.dataset, self.run_id)


def live_folder(family: str, dataset: str, run_id: str) -> str:
    """Return the key prefix of a run's live report."""
    return f"{LIVE}/{family}/{dataset}/{run_id}"


class LiveReport:
    """A run's own live report."""

    def __init__(self, spec: WorkerSpec[Train]) -> None:
        self._spec, self._task = spec, spec.task
        self._store = ObjectStore(spec.store_url, spec.s3)
        self.folder = live_folder(
            spec.family.name, spec.task.dataset, spec.made_by.get("run_id", "unknown")
        )

    def write(self, page: bytes, summary: ReportSummary, request: ProfileRequest) -> str:
        """Replace the page with a new one; return its key."""
        self._store.write(f"{self.folder}/{SUMMARY_FILE}", summary.model_dump_json().encode())
        key = f"{self.folder}/{REPORT_FILE}"
        self._store.write(key, page)
        self._write_state(request)
        return key

    def end(self) -> None:
        """Mark the report as ended; one that was never written stays unwritten."""
        if state := read_state(self._store, self.folder):
            write_state(self._store, state.model_copy(update={"ended": True}))
            key = f"{self.folder}/{REPORT_FILE}"
            page = self._store.read_all(key).decode()
            self._store.write(
                key,
                with_state(
                    page, "This training has ended; each of its epochs has a report."
                ).encode(),
            )

    def _write_state(self, request: ProfileRequest) -> None:
        state = LiveState(
            family=self._spec.family.name,
            dataset=self._task.dataset,
            run_id=self.folder.rpartition("/")[2],
            training=self._task.training,
            tokenized_dataset=self._task.tokenized_dataset.digest,
            epoch=request.epoch,
            started_at=request.started_at,
            refreshed_at=time.time(),
            made_by=self._spec.made_by,
        )
        write_state(self._store, state)


def read_state(store: ObjectStore, folder: str) -> LiveState | None:
    """Return the state in a folder of the store; None if there is none, or none of ours."""
    key = f"{folder}/{STATE_FILE}"
    found = store.find(key)
    if found is None:
        return None
    try:
        state = LiveState.model_validate_json(found)
    except ValidationError as error:
        logger.warning("%s is not the state of a live report: %s", key, one_line(error))
        return None
    if state.folder != folder:
        logger.warning("%s is the state of another live report, %r", key, state.folder)
        return None
    return state


def write_state(store: ObjectStore, state: LiveState) -> None:
    """Overwrite the state of a live report."""
    store.write(f"{state.folder}/{STATE_FILE}", state.model_dump_json().encode())


def left_behind(store: ObjectStore, family: str, dataset: str) -> list[LiveState]:
    """Return the live reports that were not ended: their runs still train, or have died."""
    folders = live_folders(store, f"{LIVE}/{family}/{dataset}")
    states = [read_state(store, folder) for folder in folders]
    return [state for state in states if state and not state.ended]


def live_folders(store: ObjectStore, prefix: str = LIVE) -> list[str]:
    """Return the key prefixes of the live reports below a prefix."""
    end = f"/{STATE_FILE}"
    return [key.removesuffix(end) for key in store.keys(prefix) if key.endswith(end)]


def with_state(page: str, text: str) -> str:
    """Return a live page that no longer refreshes itself, with the reason."""
    page = re.sub(r'<meta http-equiv="refresh"[^>]*>', "", page, count=1)
    return re.sub(
        r'<p class="state">.*?</p>', f'<p class="state">{escape(text)}</p>', page, count=1
    )
