"""What all transfers of a process share: the bytes that they hold at once."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dolly_assets.storage import ArtifactStore
from dolly_assets.storage.cache import Cache
from dolly_assets.storage.flow import (
    CHUNK_BYTES,
    CHUNKS_READ_AT_ONCE,
    for_each_chunk,
    reading_flow,
    sending_flow,
)
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.send import Sender, send_files, tree_files
from dolly_assets_tests.storage.files import MODEL, contents
from dolly_assets_tests.waiting import wait_until


def test_fetches_share_their_room_and_publications_have_another() -> None:
    first, second = reading_flow(), reading_flow()
    held = [first.take(CHUNK_BYTES) for _ in range(CHUNKS_READ_AT_ONCE)]
    sending = sending_flow()
    sending.give_back(sending.take(CHUNK_BYTES))
    waiting = threading.Thread(target=lambda: held.append(second.take(CHUNK_BYTES)))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    first.give_back(held.pop())
    waiting.join(10)
    assert len(held) == CHUNKS_READ_AT_ONCE
    for cost in held:
        first.give_back(cost)


def test_a_transfer_that_fails_stops_itself_and_no_other() -> None:
    failed, other = reading_flow(), reading_flow()
    failed.stop(ConnectionError("lost"))
    with pytest.raises(ConnectionError, match="lost"):
        failed.take(1)
    with other.room(1):
        pass


@pytest.mark.slow
def test_a_forked_process_has_room_and_threads_of_its_own() -> None:
    """What transfers of the parent hold at that moment would never be given back in the child."""
    flow = reading_flow()
    for_each_chunk(str, range(9), flow)
    held = [flow.take(CHUNK_BYTES) for _ in range(CHUNKS_READ_AT_ONCE)]
    child = os.fork()
    if not child:
        own = reading_flow()
        for_each_chunk(lambda _: own.give_back(own.take(1)), range(9), own)
        os._exit(0)
    for cost in held:
        flow.give_back(cost)
    ended: list[tuple[int, int]] = []

    def has_ended() -> bool:
        ended.append(os.waitpid(child, os.WNOHANG))
        return ended[-1][0] == child

    try:
        wait_until(has_ended, 30)
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        raise
    assert ended[-1] == (child, 0)


def test_many_big_files_are_read_by_a_few_threads(tree: Path, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    artifact = store.publish("a", tree, kind="k")

    def copy(number: int) -> None:
        artifact.copy_to(tmp_path / f"copy{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(copy, range(8)))
    readers = [thread for thread in threading.enumerate() if thread.name.startswith("chunk")]
    assert 0 < len(readers) <= CHUNKS_READ_AT_ONCE
    for number in range(8):
        assert contents(tmp_path / f"copy{number}") == contents(tree)


class Counted(ObjectStore):
    """A store that counts the bytes that are read from it."""

    read_bytes = 0

    def read(self, key: str, start: int, length: int) -> memoryview:
        data = super().read(key, start, length)
        self.read_bytes += len(data)
        return data


def test_threads_that_fetch_the_same_at_once_read_it_once(tree: Path, tmp_path: Path) -> None:
    raw = Counted(f"memory:///{tmp_path}")
    [entry] = send_files(Sender(raw), tree_files({"model": tree / "weights/model.safetensors"}))
    caches = [Cache(tmp_path / "cache", raw) for _ in range(2)]
    begin = threading.Barrier(6)
    found: list[Path] = []

    def fetch(number: int) -> None:
        begin.wait()
        found.append(caches[number % 2].tree(f"{number % 3}" * 64, [entry]))

    threads = [threading.Thread(target=fetch, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [contents(folder) for folder in found] == [{"model": MODEL}] * 6
    assert raw.read_bytes == len(MODEL)
