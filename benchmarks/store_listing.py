"""Commands over a store with many artifacts: seconds, memory, and requests to the server.

    python benchmarks/store_listing.py --bucket bench [--artifacts 100000] [--metrics URL]
    [--dolly PROGRAM]

The S3 server is the one that AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY name;
the bucket is filled with as many checkpoints (ten epochs of each dataset, with tiny content of
their own) as it lacks. Each command runs twice with an empty cache before the first: what another
machine has published is new to it. `--metrics` is where the server publishes its counters for
Prometheus (MinIO with MINIO_PROMETHEUS_AUTH_TYPE=public: …/minio/v2/metrics/cluster); requests are
counted there. `--dolly` names the program of another version, to compare with.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

from tqdm import tqdm

from dolly_assets.registry.kinds import MODEL_CHECKPOINT
from dolly_assets.storage.flow import SMALL_AT_ONCE, in_parallel
from dolly_assets.storage.manifest import FileEntry, Manifest, is_record
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets_tests.home import TINY_FAMILY

EPOCHS = 10
AT_ONCE = 2000
METRICS_SECONDS = 11.0  # MinIO counts anew every ten seconds
COMMANDS = (
    ("artifacts", "list"),
    ("status",),
    ("gc",),
    ("verify",),
)


def fill(objects: ObjectStore, artifacts: int) -> None:
    """Publish checkpoints, as far as they are missing."""
    there = sum(is_record(key) for key in objects.keys("manifests"))
    for start in tqdm(range(there, artifacts, AT_ONCE), desc="filling", unit_scale=AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, artifacts))
        in_parallel(lambda number: publish(objects, number), numbers, SMALL_AT_ONCE)


def publish(objects: ObjectStore, number: int) -> None:
    """Write one checkpoint, content first."""
    dataset, epoch = divmod(number, EPOCHS)
    content = f"weights of {dataset} after epoch {epoch + 1}".encode()
    sha256 = hashlib.sha256(content).hexdigest()
    manifest = Manifest(
        name=MODEL_CHECKPOINT.address("tiny", f"dataset-{dataset:05}", epoch + 1).name,
        kind=MODEL_CHECKPOINT.name,
        files=(FileEntry(path="weights/model", size_bytes=len(content), sha256=sha256),),
        created_at=datetime.now(UTC),
        attributes={"training": sha256, "epoch": epoch + 1, "weights_sha256": sha256},
    )
    objects.create(f"blobs/sha256/{sha256[:2]}/{sha256}", content)
    objects.create(manifest.key, manifest.to_json())


def requests(url: str | None) -> Counter[str]:
    """Return the requests that the server has counted, by operation."""
    if url is None:
        return Counter()
    time.sleep(METRICS_SECONDS)
    with urlopen(url) as answer:
        text = answer.read().decode()
    found = re.findall(r'^minio_s3_requests_total\{api="(\w+)".*\} (\S+)$', text, re.M)
    return Counter({api: int(float(count)) for api, count in found})


def measure(program: list[str], command: tuple[str, ...], home: Path, store: str) -> str:
    """Run a command of `dolly`; returns seconds and its peak memory."""
    environment = {
        **os.environ,
        "DOLLY_HOME": str(home),
        "DOLLY_DEFS": str(home / "defs"),
        "DOLLY_STORE": store,
        "DAGSTER_HOME": "",
    }
    began = time.monotonic()
    process = subprocess.Popen([*program, *command], env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    if status:
        raise SystemExit(f"dolly {' '.join(command)} failed")
    return f"{seconds:.1f} | {used.ru_maxrss / 1024:,.0f}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--artifacts", type=int, default=100_000)
    parser.add_argument("--metrics", metavar="URL")
    parser.add_argument("--dolly", metavar="PROGRAM")
    arguments = parser.parse_args()
    store = f"s3://{arguments.bucket}/store"
    fill(ObjectStore(store), arguments.artifacts)
    script = "from dolly_assets.cli.main import main; main()"
    program = [arguments.dolly] if arguments.dolly else [sys.executable, "-c", script]
    print("| command | seconds | peak MiB | list | get | other requests |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "defs" / "tiny").mkdir(parents=True)
        family = TINY_FAMILY.replace("epochs: 4", f"epochs: {EPOCHS}")
        (home / "defs" / "tiny" / "defs.yaml").write_text(family)
        before = requests(arguments.metrics)
        for command in COMMANDS:
            for which in ("first", "second"):
                measured = measure(program, command, home, store)
                after = requests(arguments.metrics)
                made, before = after - before, after
                listed, read = made.pop("listobjectsv2", 0), made.pop("getobject", 0)
                counted = f"{listed:,} | {read:,} | {sum(made.values()):,}"
                print(f"| {' '.join(command)}, {which} | {measured} | {counted} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
