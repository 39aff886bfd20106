"""Messages of workers, as launchers read them: from the store, and whatever arrives."""

import json
import time
from pathlib import Path

import pytest

from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.message_store import LATE_SECONDS, MOST_BYTES, new_messages
from dolly_assets.worker.messages import Failed, Log, read_message
from dolly_assets_tests.tiny_training import Recorded

NOW_NS = 1_700_000_000 * 10**9


def test_each_is_read_once_in_order_also_where_clocks_differ(tmp_path: Path) -> None:
    store, seen = ObjectStore(str(tmp_path)), set[str]()

    def say(text: str, seconds: float, pod: str = "pod-0") -> None:
        store.write(
            f"messages/job/{NOW_NS + int(seconds * 10**9):020d}-{pod}-0.json", text.encode()
        )

    def heard() -> list[str]:
        return [text.decode() for _, text in new_messages(store, "messages/job", seen)]

    assert heard() == []
    say("second", 2)
    say("first", 1)
    assert heard() == ["first", "second"]
    assert heard() == []
    say("third", LATE_SECONDS)
    say("of a clock that is behind", 0, "pod-1")
    assert heard() == ["of a clock that is behind", "third"]
    assert heard() == []


def test_what_is_no_message_hides_none_that_is(tmp_path: Path) -> None:
    """Whoever may write into the store can put other names there, and one from the far future."""
    store, seen = ObjectStore(str(tmp_path)), set[str]()
    names = ("zzz", "1-a-0.json", "x/00000000000000000001-a-0.json", f"{'٣' * 20}-a-0.json")
    for name in names:
        store.write(f"messages/job/{name}", b"rubbish")
    future = "9" * 20
    store.write(f"messages/job/{future}-a-0.json", b"x" * (MOST_BYTES + 1))
    store.write(f"messages/job/{future}-b-0.json", b"")
    messages = list(new_messages(store, "messages/job", seen))
    assert [(pod, len(message)) for pod, message in messages] == [("a", MOST_BYTES), ("b", 0)]
    store.write(f"messages/job/{NOW_NS:020d}-a-0.json", b"late")
    assert list(new_messages(store, "messages/job", seen)) == []
    store.write(f"messages/job/{time.time_ns():020d}-a-0.json", b"now")
    assert list(new_messages(store, "messages/job", seen)) == [("a", b"now")]


def of_worker(payload: object) -> bytes:
    return json.dumps({"method": "report_custom_message", "params": {"payload": payload}}).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"1",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b"9" * 5000,
        b'{"method": "report_custom_message"}',
        b'{"method": "report_custom_message", "params": null}',
        of_worker({"event": "log"}),
        of_worker({"event": "log", "text": "\ud800"}),
        of_worker({"event": "log", "text": "a", "\ud800": "b"}),
        of_worker({"event": "stopping", "seconds": float("inf")}),
        of_worker({"event": "stopping", "seconds": -1}),
        of_worker({"event": "unheard of"}),
    ],
)
def test_a_line_that_is_no_message_becomes_one_line_of_the_log(line: bytes) -> None:
    message = read_message(line)
    assert isinstance(message, Log)
    assert message.text.startswith(f"skipped a message of {len(line)} bytes")
    assert "\n" not in message.text
    assert message.text.isprintable()


def test_the_protocols_own_messages_are_passed_over() -> None:
    assert read_message(b'{"method": "opened", "params": {}}') is None


def test_an_error_with_half_a_character_arrives() -> None:
    """A lone surrogate, which a text of the data may hold, and which no log can encode."""
    recorded = Recorded()
    recorded.messenger.emit_failed("row 7: \ud800", by_user=True)
    [sent] = recorded.messages
    received = read_message(of_worker(sent.model_dump()))
    assert received == Failed(rank=0, error="row 7: \\ud800", by_user=True)
