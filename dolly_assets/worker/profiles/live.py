"""The report of a training that runs, in the store: `live/FAMILY/DATASET/RUN/`, overwritten again and again.

`report.html` is the page, `summary.json` its numbers, `state.json` says whose they are. Artifacts
are immutable; this is not one. It stays when the training has ended, until garbage collection finds
it old.
"""

import re
import time
from html import escape

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.profiling.analysis.summary import SUMMARY_FILE, ReportSummary
from dolly_assets.profiling.report.report import REPORT_FILE
from dolly_assets.storage.conventions import LIVE
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.profiles.profile_publisher import ProfileRequest
from dolly_assets.worker.spec import Train, WorkerSpec

STATE_FILE = "state.json"


class LiveState(Config):
    """Whose live report it is."""

    family: str
    dataset: str
    run_id: str
    training: str = Field(description="Digest of what decides the weights.")
    tokenized_dataset: str = Field(description="Its digest.")
    epoch: int
    started_at: float = Field(description="Of the epoch's profile, UTC epoch seconds.")
    refreshed_at: float = Field(description="UTC epoch seconds.")
    ended: bool = Field(
        default=False, description="Whether all that it showed was published as profiles."
    )
    made_by: dict[str, str]

    @property
    def seconds_since_refresh(self) -> float:
        """By this machine's clock."""
        return time.time() - self.refreshed_at

    @property
    def folder(self) -> str:
        """Key prefix of its objects."""
        return live_folder(self.family, self.dataset, self.run_id)


def live_folder(family: str, dataset: str, run_id: str) -> str:
    """Key prefix of a run's live report."""
    return f"{LIVE}/{family}/{dataset}/{run_id}"


class LiveReport:
    """A run's own live report."""

    def __init__(self, spec: WorkerSpec) -> None:
        assert isinstance(spec.task, Train)
        self._spec, self._task = spec, spec.task
        self._store = ObjectStore(spec.store_url, spec.s3)
        self.folder = live_folder(
            spec.family.name, spec.task.dataset, spec.made_by.get("run_id", "unknown")
        )

    def write(self, page: bytes, summary: ReportSummary, request: ProfileRequest) -> str:
        """Puts a new page in place of the one before; returns its key."""
        self._store.write(f"{self.folder}/{SUMMARY_FILE}", summary.model_dump_json().encode())
        key = f"{self.folder}/{REPORT_FILE}"
        self._store.write(key, page)
        self._write_state(request)
        return key

    def end(self) -> None:
        """Says that nothing is left to be made of it; one that was never written stays so."""
        if state := read_state(self._store, self.folder):
            write_state(self._store, state.model_copy(update={"ended": True}))
            key = f"{self.folder}/{REPORT_FILE}"
            page = self._store.read_all(key).decode()
            self._store.write(
                key,
                with_state(
                    page, "This training has ended: its epochs have their reports."
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
    """The state in a folder of the store; None if there is none."""
    found = store.find(f"{folder}/{STATE_FILE}")
    return LiveState.model_validate_json(found) if found else None


def write_state(store: ObjectStore, state: LiveState) -> None:
    """Overwrites the state of a live report."""
    store.write(f"{state.folder}/{STATE_FILE}", state.model_dump_json().encode())


def left_behind(store: ObjectStore, family: str, dataset: str) -> list[LiveState]:
    """The live reports of a family on a dataset that were not ended: their runs go on, or have died."""
    keys = store.keys(f"{LIVE}/{family}/{dataset}")
    folders = [key.removesuffix(f"/{STATE_FILE}") for key in keys if key.endswith(f"/{STATE_FILE}")]
    states = [read_state(store, folder) for folder in folders]
    return [state for state in states if state and not state.ended]


def with_state(page: str, text: str) -> str:
    """A live page that is loaded anew no more, and says why."""
    page = re.sub(r'<meta http-equiv="refresh"[^>]*>', "", page, count=1)
    return re.sub(
        r'<p class="state">.*?</p>', f'<p class="state">{escape(text)}</p>', page, count=1
    )
