"""The sensor that watches the inbox: a complete dataset becomes a partition, and a run ingests it.

What was seen is kept in the sensor's cursor, by name and fingerprint, so the sensor depends neither
on distinct timestamps nor on files that stay unchanged. A tick that is killed halfway is repeated:
a run's key names the dataset and its content, and Dagster starts no key twice.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import dagster as dg

from dolly_assets.automation.alerts import Alert, Alerts
from dolly_assets.core.errors import ArtifactError, DatasetError
from dolly_assets.core.text import count
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.inbox import Arrival, Inbox

PER_TICK = 200
"""Most datasets that a tick ingests or rejects; each may require reading a card."""
TICK_SECONDS = 20
"""How long a tick reads cards; Dagster ends it after 60 seconds, with all that it found out."""

State = Literal["seen", "unread", "taken", "refused"]


@dataclass
class Cursor:
    """What the inbox held at the last tick: name -> fingerprint and state."""

    known: dict[str, tuple[str, State]] = field(default_factory=dict)

    @classmethod
    def load(cls, text: str | None) -> "Cursor":
        """Parse what `dump` returned."""
        return cls(
            {
                name: (fingerprint, state)
                for name, (fingerprint, state) in json.loads(text or "{}").items()
            }
        )

    def of(self, name: str) -> tuple[str, State]:
        """Return the fingerprint and the state of a dataset."""
        return self.known.get(name, ("", "seen"))

    def dump(self) -> str:
        """Return the cursor in the form that Dagster keeps."""
        return json.dumps(self.known, separators=(",", ":"))


@dataclass(frozen=True)
class Tick:
    """What a tick has to do.

    Attributes:
        taken: Complete datasets to ingest.
        refused: Name -> reason; each is reported once.
        unread: Name -> why the card could not be read; it is retried at the next tick.
        waiting: Number of datasets that are still changing, or left for the next tick.
        cursor: What the next tick starts from.
    """

    taken: list[Arrival]
    refused: dict[str, str]
    unread: dict[str, str]
    waiting: int
    cursor: Cursor


def look(
    inbox: Inbox,
    cursor: Cursor,
    kept: Mapping[str, DatasetConfig],
    most_seconds: float = TICK_SECONDS,
) -> Tick:
    """Compare the inbox with what was seen before.

    Args:
        inbox: Where datasets arrive.
        cursor: What the inbox held at the last tick.
        kept: The datasets that are known without the inbox; their names are in use.
        most_seconds: After how long to leave the rest to the next tick.
    """
    taken: list[Arrival] = []
    refused: dict[str, str] = {}
    unread: dict[str, str] = {}
    waiting = 0
    known: dict[str, tuple[str, State]] = {}
    arrivals = inbox.arrivals()
    began = time.monotonic()
    # Cards that could not be read come after all others, so that they delay none.
    for name in sorted(arrivals, key=lambda name: (cursor.of(name)[1] == "unread", name)):
        arrival, (fingerprint, state) = arrivals[name], cursor.of(name)
        is_same = fingerprint == arrival.fingerprint
        if is_same and state in ("taken", "refused"):
            known[name] = (fingerprint, state)
            continue
        known[name] = (arrival.fingerprint, "seen")
        is_whole = is_same or arrival.is_marked_complete
        done = len(taken) + len(refused) + len(unread)
        is_over = done == PER_TICK or (done > 0 and time.monotonic() - began > most_seconds)
        if not is_whole or is_over:
            waiting += 1
            continue
        try:
            reason = _refusal(inbox, arrival, kept)
        except ArtifactError as error:
            unread[name] = str(error)
            known[name] = (arrival.fingerprint, "unread")
            continue
        if reason:
            refused[name] = reason
        else:
            taken.append(arrival)
        known[name] = (arrival.fingerprint, "refused" if reason else "taken")
    return Tick(taken, refused, unread, waiting, Cursor(known))


def build_inbox_sensor(declared: Sequence[DatasetConfig], *, is_on: bool) -> dg.SensorDefinition:
    """Return the sensor `inbox`, with the job that ingests a dataset."""

    @dg.sensor(
        name="inbox",
        job=dg.define_asset_job("ingest_dataset", dg.AssetSelection.assets("raw_dataset")),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING if is_on else dg.DefaultSensorStatus.STOPPED,
        description="Registers and ingests datasets that arrive in DOLLY_INBOX.",
    )
    def inbox(
        context: dg.SensorEvaluationContext, store: StoreResource, alerts: dg.ResourceParam[Alerts]
    ) -> dg.SensorResult | dg.SkipReason:
        if not store.inbox_url:
            return dg.SkipReason("DOLLY_INBOX is not set: expected a folder or s3://bucket/prefix")
        watched = Inbox(store.inbox_url)
        tick = look(watched, Cursor.load(context.cursor), store.catalogue(declared).kept())
        for name, reason in tick.unread.items():
            context.log.warning(f"{name} will be retried: {reason}")
        for name, reason in tick.refused.items():
            context.log.warning(f"{name} was rejected: {reason}")
            title = f"dataset {name!r} in the inbox was rejected"
            alerts.send(Alert(kind="dataset_refused", title=title, text=reason))
        names = [arrival.name for arrival in tick.taken]
        result = dg.SensorResult(
            run_requests=[_request(arrival) for arrival in tick.taken],
            dynamic_partitions_requests=[DATASETS.build_add_request(names)] if names else [],
            cursor=tick.cursor.dump(),
        )
        if names:
            return result
        refused = [name for name, (_, state) in tick.cursor.known.items() if state == "refused"]
        return result._replace(
            skip_reason=dg.SkipReason(
                f"nothing new in {watched.url}: {count(len(tick.cursor.known), 'dataset')}, "
                f"{tick.waiting} still uploading, {len(tick.unread)} not readable, "
                f"{len(refused)} rejected{': ' if refused else ''}{', '.join(refused[:10])}"
            )
        )

    return inbox


def _refusal(inbox: Inbox, arrival: Arrival, kept: Mapping[str, DatasetConfig]) -> str | None:
    if arrival.name in kept:
        return (
            f"the name is already used by {kept[arrival.name].source}: "
            "put the data there, or choose another name"
        )
    try:
        inbox.config(arrival)
    except DatasetError as error:
        return str(error)
    return None


def _request(arrival: Arrival) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{arrival.name}:{arrival.fingerprint}",
        partition_key=arrival.name,
        tags={"dolly/inbox": arrival.source},
    )
