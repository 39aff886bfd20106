"""Messages through the store, as the launcher that follows a Job reads them."""

from pathlib import Path

from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.message_store import LATE_SECONDS, new_messages

NOW_NS = 1_700_000_000 * 10**9


def test_each_is_read_once_in_order_also_where_clocks_differ(tmp_path: Path) -> None:
    store, seen = ObjectStore(str(tmp_path)), set[str]()

    def say(text: str, seconds: float, pod: str = "pod-0") -> None:
        store.write(
            f"messages/job/{NOW_NS + int(seconds * 10**9):020d}-{pod}-0.json", text.encode()
        )

    def heard() -> list[str]:
        return list(new_messages(store, "messages/job", seen))

    assert heard() == []
    say("second", 2)
    say("first", 1)
    assert heard() == ["first", "second"]
    assert heard() == []
    say("third", LATE_SECONDS)
    say("of a clock that is behind", 0, "pod-1")
    assert heard() == ["of a clock that is behind", "third"]
    assert heard() == []
