"""Count what is lost of artifacts when network, processes and disks fail, each many times.

    python benchmarks/store_faults.py --bucket faults --kills 200

The S3 server is the one that AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY name, or
moto's server if they are not set. Every fault follows from --seed.
"""

import argparse
import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from dolly_assets_tests.storage import faults
from dolly_assets_tests.storage.faulty_proxy import FAULTS, WRONG_REQUEST


def main() -> None:
    """Run every fault and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bucket", default="dolly-faults", help="made if it is not there")
    parser.add_argument(
        "--kills", type=int, default=200, help="SIGKILLs, half on S3 and half on a folder"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="publications and fetches per network fault"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    import boto3

    logging.disable(logging.WARNING)  # the store's warnings of what is done to it here
    network = (
        (*FAULTS, WRONG_REQUEST) if "AWS_ENDPOINT_URL" in os.environ else FAULTS
    )  # moto checks no hash
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or _moto()
    os.environ["AWS_ENDPOINT_URL"] = endpoint
    os.environ.setdefault("AWS_REGION", os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
    boto3.client("s3", region_name=os.environ["AWS_REGION"]).create_bucket(Bucket=options.bucket)
    url = f"s3://{options.bucket}/{uuid.uuid4().hex}"
    print(faults.HEADER)
    lost = returned = tried = 0
    with tempfile.TemporaryDirectory() as folder:
        for outcome in _outcomes(network, endpoint, url, Path(folder), options):
            print(outcome.row(), flush=True)
            tried, lost, returned = (
                tried + outcome.tried,
                lost + outcome.lost,
                returned + outcome.returned,
            )
    print(f"faults tried {tried}\ndata lost {lost}\ndamage returned as data {returned}")
    sys.exit(1 if lost or returned else 0)


def _outcomes(
    network: Sequence[str], endpoint: str, url: str, folder: Path, options: argparse.Namespace
) -> Iterator[faults.Outcome]:
    seed = options.seed
    for index, fault in enumerate(network):
        yield faults.http_faults(
            fault, endpoint, f"{url}/{index}", folder / str(index), seed + index, options.rounds
        )
    yield faults.missing_bucket(folder / "no-bucket", seed)
    yield faults.kills(f"{url}/kills", folder / "kills", seed, options.kills // 2)
    yield faults.kills(
        str(folder / "store"), folder / "kills-local", seed + 1, options.kills - options.kills // 2
    )
    yield faults.two_writers(f"{url}/writers", folder / "writers", seed, options.rounds)
    yield faults.flipped_bits(folder / "flipped", seed, 10 * options.rounds)
    full = faults.full_disk(folder / "full", seed)
    if full:
        yield full
    else:
        print("disk full: skipped, this user may not mount a small file system")


def _moto() -> str:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "test-key")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test-secret")
    return "http://{}:{}".format(*server.get_host_and_port())


if __name__ == "__main__":
    main()
