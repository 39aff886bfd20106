"""Faults of the store on purpose, and what is counted: lost data, damage returned as data.

`test_faults.py` runs a short version of all of it, `benchmarks/store_faults.py` a long one that
prints the table.
"""

import itertools
import multiprocessing
import multiprocessing.process
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

from dolly_assets.core.errors import DollyError
from dolly_assets.storage import Artifact, ArtifactStore, RetentionPolicy, object_store
from dolly_assets_tests.storage.faulty_proxy import FaultyProxy

BIG_BYTES = 9_000_000  # two chunks
PERSISTENT = ("permission lost", "clock skew")  # no retry helps
NAME = "demo/model_checkpoint/demo/01"


@dataclass
class Outcome:
    """What came of one kind of fault."""

    fault: str
    tried: int = 0
    hits: int = 0  # requests that were spoilt, kills that met a living process
    refused: int = 0  # ended with one of our errors; the others succeeded in spite of the fault
    errors: list[str] = field(default_factory=list)
    lost: int = 0  # what was published before is no longer complete, or the next attempt fails
    returned: int = 0  # other bytes than were published

    def row(self) -> str:
        """One line of the table."""
        counts = (self.tried, self.hits, self.refused, self.lost, self.returned)
        return f"{self.fault:<34}" + "".join(f"{count:>10}" for count in counts)


HEADER = f"{'fault':<34}" + "".join(
    f"{title:>10}" for title in ("tried", "hits", "refused", "lost", "returned")
)


class Trees:
    """Folders of random content: a big file and many small ones, some of them in each folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._chance = random.Random(seed)
        self._same = {f"same/{index}": self._chance.randbytes(2000) for index in range(8)}

    def next(self) -> tuple[Path, dict[str, bytes]]:
        """The folder, written again, and what is in it."""
        big = self._chance.randbytes(BIG_BYTES)
        small = {f"small/{index}": self._chance.randbytes(500) for index in range(30)}
        content = {**self._same, **small, "weights/model": big, "log": self._chance.randbytes(100)}
        for path, data in content.items():
            file = self._folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return self._folder, content


def read_tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def is_whole(
    store: ArtifactStore, content: dict[str, bytes], digests: list[str], name: str = NAME
) -> bool:
    """Whether a name's publications are undamaged, with these digests and, last, this content."""
    history = store.history(name)
    return (
        all(not found.damaged for found in store.verify(name))
        and set(digests) <= {artifact.digest for artifact in history}
        and store.get(name, digests[-1]).read_bytes("log") == content["log"]
    )


def http_faults(
    fault: str, endpoint: str, url: str, folder: Path, seed: int, rounds: int
) -> Outcome:
    """Publishes and fetches through a proxy that spoils a share of the requests."""
    outcome, chance = Outcome(fault), random.Random(seed)
    trees = Trees(folder / "tree", seed)
    healthy = ArtifactStore(url, folder / "healthy")
    digests: list[str] = []
    with FaultyProxy(endpoint, seed) as proxy, _endpoint(proxy.url):
        store = ArtifactStore(url, folder / "cache")
        for turn in range(rounds):
            tree, content = trees.next()
            share = 1.0 if fault in PERSISTENT else 0.3
            proxy.set_fault(fault, share, spared=chance.randrange(12))
            outcome.tried += 1
            try:
                artifact = store.publish(NAME, tree, kind="k")
            except DollyError as error:
                outcome.errors.append(str(error))
                outcome.refused += 1
                outcome.hits += proxy.hits
                proxy.set_fault("")
                artifact = store.publish(NAME, tree, kind="k")  # the next try
            digests.append(artifact.digest)
            outcome.hits += proxy.hits
            outcome.lost += not is_whole(healthy, content, digests)
            proxy.set_fault(fault, share, spared=chance.randrange(3))
            outcome.tried += 1
            reader = ArtifactStore(url, folder / f"cache{turn}")
            for _ in range(2):
                try:
                    found = reader.get(NAME, artifact.digest)
                    outcome.returned += read_tree(found.fetch()) != content
                    outcome.returned += (
                        found.read_bytes("weights/model", 8_388_000, 9000)
                        != content["weights/model"][8_388_000:8_397_000]
                    )
                    break
                except DollyError as error:
                    outcome.errors.append(str(error))
                    outcome.refused += 1
                    outcome.hits += proxy.hits
                    proxy.set_fault("")
            else:
                outcome.lost += 1
            outcome.hits += proxy.hits
    return outcome


def missing_bucket(folder: Path, seed: int) -> Outcome:
    """Publishing to a bucket that does not exist, and reading from it."""
    outcome, (tree, _) = Outcome("bucket does not exist"), Trees(folder / "tree", seed).next()
    store = ArtifactStore(f"s3://no-such-bucket-{seed}/x", folder / "cache")
    for action in (
        lambda: store.publish(NAME, tree, kind="k"),
        lambda: store.latest(NAME),
        store.names,
    ):
        outcome.tried += 1
        outcome.refused += _is_refused(action)
    outcome.hits = outcome.tried
    outcome.returned = outcome.tried - outcome.refused
    return outcome


@contextmanager
def _endpoint(url: str) -> Iterator[None]:
    with (
        mock.patch.dict(os.environ, {"AWS_ENDPOINT_URL": url}),
        mock.patch.object(object_store, "REQUEST_TIMEOUT", "1s"),  # so that a stall is over soon
    ):
        yield


def _publish(url: str, cache: Path, name: str, tree: Path) -> None:
    ArtifactStore(url, cache).publish(name, tree, kind="k")


def _fetch(url: str, cache: Path, name: str, digest: str) -> None:
    ArtifactStore(url, cache).get(name, digest).fetch()


def _start(
    function: Callable[..., None], *arguments: object
) -> multiprocessing.process.BaseProcess:
    """Starts a process that shares no thread with this one; returns when it is about to begin."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_begin, args=(dict(os.environ), sender, function, arguments))
    process.start()
    receiver.recv()
    return process


def _begin(
    environment: dict[str, str],
    sender: Connection,
    function: Callable[..., None],
    arguments: tuple[object, ...],
) -> None:
    os.environ.update(environment)
    sender.send("ready")
    function(*arguments)


def kills(url: str, folder: Path, seed: int, hits: int) -> Outcome:
    """SIGKILL at random moments of publishing and fetching, until enough hit a running process."""
    outcome, chance = Outcome("SIGKILL"), random.Random(seed)
    trees, store = Trees(folder / "tree", seed), ArtifactStore(url, folder / "own")
    tree, _ = trees.next()
    began_at = time.monotonic()
    store.publish(NAME, tree, kind="k")
    longest_seconds = time.monotonic() - began_at
    for turn in itertools.count():
        if outcome.hits >= hits:
            break
        name, cache = (
            f"{NAME}/{turn // 5}",
            folder / f"cache{turn}",
        )  # a new name now and then: all of it is verified
        tree, content = trees.next()
        old = [artifact.digest for artifact in store.history(name)]
        outcome.hits += _kill(
            _start(_publish, url, cache, name, tree), chance.uniform(0, longest_seconds)
        )
        outcome.lost += any(found.damaged for found in store.verify(name))
        digest = store.publish(name, tree, kind="k").digest
        outcome.lost += not is_whole(store, content, [*old, digest], name)
        outcome.hits += _kill(
            _start(_fetch, url, cache, name, digest), chance.uniform(0, longest_seconds)
        )
        outcome.returned += (
            read_tree(ArtifactStore(url, cache).get(name, digest).fetch()) != content
        )
        shutil.rmtree(cache, ignore_errors=True)
        outcome.tried += 2
    outcome.lost += any(found.damaged for found in store.verify())
    return outcome


def _kill(process: multiprocessing.process.BaseProcess, after_seconds: float) -> int:
    process.join(after_seconds)
    is_alive = process.is_alive()
    process.kill()
    process.join()
    assert is_alive or process.exitcode == 0, "it was not killed and failed"
    return int(is_alive)


def two_writers(url: str, folder: Path, seed: int, rounds: int) -> Outcome:
    """Two processes publish the same new tree under the same name at once."""
    outcome, trees, store = (
        Outcome("two writers at once"),
        Trees(folder / "tree", seed),
        ArtifactStore(url, folder / "c"),
    )
    for _ in range(rounds):
        outcome.tried += 1
        tree, content = trees.next()
        before = len(store.history(NAME))
        writers = [_start(_publish, url, folder / "cache", NAME, tree) for _ in range(2)]
        for writer in writers:
            writer.join()
        outcome.hits += 2
        history = store.history(NAME)
        outcome.lost += len(history) != before + 2 or not is_whole(
            store, content, [history[0].digest]
        )
        outcome.returned += read_tree(history[0].fetch()) != content
    return outcome


def flipped_bits(folder: Path, seed: int, rounds: int) -> Outcome:
    """One bit of a random object of a folder's store is flipped; all is read; then back."""
    outcome, chance = Outcome("flipped bit in the store"), random.Random(seed)
    tree, content = Trees(folder / "tree", seed).next()
    store = ArtifactStore(str(folder / "store"), folder / "cache")
    digest = store.publish(NAME, tree, kind="k").digest
    kinds = [folder / "store" / kind for kind in ("blobs", "manifests")]
    objects = sorted(path for kind in kinds for path in kind.rglob("*") if path.is_file())
    for turn in range(rounds):
        outcome.tried += 1
        path = chance.choice(objects)
        intact = path.read_bytes()
        changed = bytearray(intact)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        path.chmod(0o644)
        path.write_bytes(changed)
        outcome.hits += 1
        with suppress(DollyError):
            found = ArtifactStore(store.url, folder / f"cache{turn}").get(NAME, digest)
            outcome.returned += any(
                _reads_other(found, name, data) for name, data in content.items()
            )
        if any(finding.damaged for finding in store.verify()):
            outcome.refused += 1
        else:
            outcome.returned += 1  # it was not noticed
        path.write_bytes(intact)
        outcome.lost += any(finding.damaged for finding in store.verify())
    return outcome


def _reads_other(artifact: Artifact, path: str, expected: bytes) -> bool:
    with suppress(DollyError):
        return (
            artifact.read_bytes(path) != expected
            or artifact.local_file(path).read_bytes() != expected
        )
    return False


def full_disk(folder: Path, seed: int) -> Outcome | None:
    """Store and cache on a file system that is too small.

    None where this user may not mount one.
    """
    outcome, small = Outcome("disk full (store, cache)"), folder / "small"
    small.mkdir(parents=True)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", small], capture_output=True
    ).returncode:
        return None
    try:
        trees, chance = Trees(folder / "tree", seed), random.Random(seed)
        store = ArtifactStore(str(small / "store"), folder / "cache")
        tree, content = trees.next()
        digest = store.publish(NAME, tree, kind="k").digest
        for _ in range(4):
            outcome.tried += 1
            (small / "ballast").write_bytes(bytes(chance.randrange(15_000_000, 20_000_000)))
            tree, _ = trees.next()
            outcome.refused += _is_refused(lambda tree=tree: store.publish(NAME, tree, kind="k"))
            outcome.lost += not is_whole(store, content, [digest])
            outcome.tried += 1
            reader = ArtifactStore(str(small / "store"), small / "cache")
            outcome.refused += _is_refused(lambda reader=reader: reader.get(NAME, digest).fetch())
            (small / "ballast").unlink()
            subprocess.run(["rm", "-rf", small / "cache"], check=True)
            store.collect_garbage(RetentionPolicy(grace_hours=0), protected=set(), delete=True)
        outcome.hits = outcome.refused
        outcome.returned += read_tree(store.get(NAME, digest).fetch()) != content
        outcome.lost += not store.publish(NAME, folder / "tree" / "same", kind="k").is_complete()
    finally:
        subprocess.run(["umount", "-l", small], check=True)
    return outcome


def _is_refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except DollyError:
        return True
    return False
