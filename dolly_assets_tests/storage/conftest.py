"""Stores to test against: a folder, memory, and S3 over real HTTP (moto's server stands in for Amazon)."""

import logging
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from dolly_assets.storage import ArtifactStore

BUCKET = "artifacts"
MODEL = bytes(range(256)) * 36_000 + b"the last chunk differs"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(
        logging.INFO
    )  # one line per request, see test_transfer.py
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket's prefix."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ALLOW_HTTP", raising=False)
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=found["Key"])
    return f"s3://{BUCKET}/some/prefix"


@pytest.fixture(params=["folder", "s3"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that several processes can use."""
    return request.getfixturevalue("s3") if request.param == "s3" else str(tmp_path / "store")


@pytest.fixture(params=["folder", "memory", "s3"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return request.getfixturevalue("s3")
    return str(tmp_path / "store") if request.param == "folder" else f"memory:///{tmp_path}"


@pytest.fixture
def any_store(any_url: str, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(any_url, tmp_path / "cache")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with a file of several chunks, an empty file, and an awkward name."""
    folder = tmp_path / "tree"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "model.safetensors").write_bytes(MODEL)
    (folder / "weights" / "config.json").write_text('{"vocab_size": 3}')
    (folder / "state").mkdir()
    (folder / "state" / "rng é #1 %41.bin").write_bytes(b"random")
    (folder / "empty").touch()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def flip_a_bit(path: Path) -> None:
    """Damages a file without changing its size; as root may, even if the file is read-only."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def blob_of(store_folder: Path, artifact_file_sha256: str) -> Path:
    return store_folder / "blobs" / "sha256" / artifact_file_sha256[:2] / artifact_file_sha256
