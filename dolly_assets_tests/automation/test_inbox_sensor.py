"""The inbox sensor, tick by tick, as the daemon would evaluate it; the inbox is a real folder."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import pytest
from dagster import build_sensor_context

from dolly_assets.automation.alerts import Alerts
from dolly_assets.automation.inbox_sensor import PER_TICK, Cursor, build_inbox_sensor, look
from dolly_assets.core.errors import ArtifactError
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.inbox import Inbox

LINE = '{"instruction": "Name a colour.", "response": "Blue."}\n'


class Watched:
    """An inbox and the sensor that watches it."""

    def __init__(self, folder: Path, inbox_url: str = "") -> None:
        self.folder = folder / "inbox"
        self.folder.mkdir()
        self._store = StoreResource(
            url=str(folder / "store"),
            cache_dir=str(folder / "cache"),
            inbox_url=inbox_url or str(self.folder),
        )
        declared = DatasetConfig(name="declared", source="builtin:demo")
        self._sensor = build_inbox_sensor([declared], is_on=False)
        self.cursor: str | None = None
        self.skipped = ""

    def put(self, name: str, text: str = LINE) -> None:
        (self.folder / name).write_text(text)

    def tick(self, *, is_killed: bool = False) -> dict[str, str]:
        """Requested runs: dataset -> run key. A tick that is killed leaves the cursor as it was."""
        with (
            dg.DagsterInstance.ephemeral() as instance,
            build_sensor_context(
                instance=instance,
                cursor=self.cursor,
                resources={"store": self._store, "alerts": Alerts()},
            ) as context,
        ):
            result = self._sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.skipped = (
            str(result.skip_reason.skip_message)
            if isinstance(result.skip_reason, dg.SkipReason)
            else ""
        )
        if not is_killed:
            self.cursor = result.cursor
        requests = result.run_requests or []
        added = [
            key
            for request in result.dynamic_partitions_requests or []
            for key in request.partition_keys
        ]
        assert sorted(added) == sorted(str(request.partition_key) for request in requests)
        return {str(request.partition_key): str(request.run_key) for request in requests}


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_dataset_is_taken_once_it_holds_still(watched: Watched) -> None:
    watched.put("one.jsonl")
    assert not watched.tick()
    watched.put("one.jsonl", LINE * 2)
    assert not watched.tick(), "it has grown since the last look"
    assert set(watched.tick()) == {"one"}
    assert not watched.tick()


def test_a_marker_takes_it_at_once(watched: Watched) -> None:
    watched.put("one.jsonl")
    watched.put("one.done", "")
    assert set(watched.tick()) == {"one"}


def test_a_changed_file_is_a_new_version_and_the_same_one_is_not(watched: Watched) -> None:
    watched.put("one.jsonl")
    watched.tick()
    first = watched.tick()
    watched.put("one.jsonl", LINE * 3)
    watched.tick()
    second = watched.tick()
    assert set(first) == set(second) == {"one"}
    assert first != second


def test_a_tick_that_was_killed_asks_for_the_same_runs_again(watched: Watched) -> None:
    watched.put("one.jsonl")
    watched.tick()
    assert watched.tick(is_killed=True) == watched.tick()


@pytest.mark.slow
def test_what_is_rejected_is_reported_once_and_left_where_it_is(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.put("two words.jsonl")
    watched.put("declared.jsonl")
    for _ in range(3):
        assert not watched.tick()
    reported = [
        record.getMessage() for record in caplog.records if "dataset_refused" in record.getMessage()
    ]
    assert len(reported) == 2
    assert "the name is already used by builtin:demo" in "".join(reported)
    assert "2 rejected" in watched.skipped
    assert len(list(watched.folder.iterdir())) == 2


def test_more_than_a_tick_can_take_are_taken_by_the_next_ones(watched: Watched) -> None:
    names = {f"d{number}" for number in range(PER_TICK + 20)}
    for name in names:
        watched.put(f"{name}.jsonl")
    watched.tick()
    first, second = watched.tick(), watched.tick()
    assert len(first) == PER_TICK
    assert first.keys() | second.keys() == names
    assert not first.keys() & second.keys()


def test_a_file_that_is_put_back_as_it_was_is_a_new_version_too(watched: Watched) -> None:
    keys = []
    for number, text in enumerate((LINE, LINE * 2, LINE)):
        watched.put("one.jsonl", text)
        os.utime(watched.folder / "one.jsonl", (number, number))
        watched.tick()
        keys.append(watched.tick()["one"])
    assert len(set(keys)) == 3


def test_a_card_that_was_put_right_lets_its_dataset_in(watched: Watched) -> None:
    watched.put("one.jsonl")
    watched.put("one.yaml", "licence: mit\n")
    watched.tick()
    assert not watched.tick()
    assert "1 rejected" in watched.skipped
    watched.put("one.yaml", "license: mit\n")
    watched.tick()
    assert set(watched.tick()) == {"one"}


@pytest.mark.slow
def test_clocks_that_jump_neither_lose_nor_double_a_dataset(watched: Watched) -> None:
    now, next_century = 0, 4_102_444_800
    keys = []
    for clock in (now, next_century, now, next_century - 1):
        watched.put("one.jsonl")
        os.utime(watched.folder / "one.jsonl", (clock, clock))
        watched.tick()
        keys += watched.tick().values()
        assert not watched.tick()
    assert len(keys) == 4, "it was written four times"
    assert keys[0] == keys[2], "what is as it was before is not another version"


def test_a_wrong_arrival_is_named_and_keeps_no_other_away_at_any_tick(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.put("evil.jsonl")
    watched.put("evil.yaml", "description: 2026-99-99\n")
    watched.put("a\nb.jsonl")
    for name in ("one", "two", "three"):
        watched.put(f"{name}.jsonl")
        assert not watched.tick()
        assert set(watched.tick()) == {name}
        assert not watched.tick()
    assert "2 rejected: a\\nb, evil" in watched.skipped
    reported = [line for line in caplog.messages if line.startswith("dataset_refused")]
    assert len(reported) == 2
    assert "evil.yaml: not YAML: line 1, column 14: a value cannot be read" in "".join(reported)


def test_a_tick_that_takes_long_leaves_the_rest_to_the_next(watched: Watched) -> None:
    names = ["a", "b", "c"]
    for name in names:
        watched.put(f"{name}.jsonl")
        watched.put(f"{name}.done", "")
    inbox, cursor = Inbox(str(watched.folder)), Cursor()
    for name in names:
        tick = look(inbox, cursor, {}, most_seconds=0)
        assert [arrival.name for arrival in tick.taken] == [name]
        cursor = tick.cursor
    assert not look(inbox, cursor, {}, most_seconds=0).taken


@pytest.fixture
def closed_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator["ClosedBucket"]:
    """S3's answers for a bucket with two datasets, to somebody who may do less and less."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with ClosedBucket() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


class ClosedBucket(ThreadingHTTPServer):
    """Lists `a.jsonl` with its card and `b.jsonl`, unless it is closed; nobody may read a card."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _S3)
        self.is_closed = False
        self.keys = ["a.jsonl", "a.yaml", "a.done", "b.jsonl", "b.done"]


class _S3(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, ClosedBucket)
        is_listing = "list-type" in self.path
        if self.server.is_closed or not is_listing:
            self._answer(
                403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            )
            return
        facts = "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>1</ETag><Size>9</Size>"
        entry = f"<Contents><Key>{{}}</Key>{facts}</Contents>"
        entries = "".join(map(entry.format, self.server.keys))
        self._answer(
            200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        )

    def _answer(self, status: int, xml: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(xml)))
        self.end_headers()
        self.wfile.write(xml.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def test_a_bucket_that_may_not_be_listed_fails_the_tick_and_is_looked_at_again(
    closed_bucket: ClosedBucket, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    watched = Watched(tmp_path, "s3://bucket")
    closed_bucket.is_closed = True
    with pytest.raises(
        ArtifactError, match=r"s3://bucket/.*: access denied; check the credentials"
    ):
        watched.tick()
    closed_bucket.is_closed = False
    assert set(watched.tick()) == {"b"}
    assert "a will be retried: s3://bucket/a.yaml: access denied" in capfd.readouterr().err
    assert not watched.tick()


@pytest.mark.slow
def test_cards_that_cannot_be_read_do_not_hold_up_other_datasets(
    closed_bucket: ClosedBucket, tmp_path: Path
) -> None:
    closed_bucket.keys = ["z.jsonl", "z.done"]
    for number in range(PER_TICK):
        closed_bucket.keys += [f"a{number}{suffix}" for suffix in (".jsonl", ".yaml", ".done")]
    watched = Watched(tmp_path, "s3://bucket")
    assert not watched.tick(), "all that a tick can look at cannot be read"
    assert set(watched.tick()) == {"z"}
    assert not watched.tick()
