"""Where S3's endpoint, region and credentials come from: what a server sees of them."""

import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dolly_assets.core.errors import ArtifactError, ConfigurationError
from dolly_assets.storage.io_manager import ArtifactIOManager
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.s3 import S3Settings, s3_arguments

CREDENTIALS = """
[default]
aws_access_key_id = key-of-default
aws_secret_access_key = hunter2
[team]
aws_access_key_id = key-of-team
aws_secret_access_key = hunter2
"""
CONFIG = """
[profile team]
region = eu-north-1
"""


class Seen(HTTPServer):
    """Denies every request, and remembers the last one's headers."""

    headers: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def signed_by(self) -> list[str]:
        """Key and region."""
        match = re.search(r"Credential=([^/]+)/\d+/([^/]+)/", self.headers["authorization"])
        assert match
        return list(match.groups())


@pytest.fixture
def server() -> Iterator[Seen]:
    class Denies(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_error(403)

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    with Seen(("127.0.0.1", 0), Denies) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Seen) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, text in (("AWS_SHARED_CREDENTIALS_FILE", CREDENTIALS), ("AWS_CONFIG_FILE", CONFIG)):
        (tmp_path / name).write_text(text)
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)


def _ask(settings: S3Settings) -> str:
    with pytest.raises(ArtifactError, match="access denied") as caught:
        ObjectStore("s3://bucket/prefix", settings).keys("x")
    return str(caught.value)


def test_the_default_profile_is_used_when_nothing_else_is_said(server: Seen) -> None:
    assert "hunter2" not in _ask(S3Settings())
    assert server.signed_by == ["key-of-default", "us-east-1"]


def test_a_profile_gives_keys_and_region(server: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "team")
    _ask(S3Settings())
    assert server.signed_by == ["key-of-team", "eu-north-1"]
    _ask(S3Settings(region_name="us-west-2"))
    assert server.signed_by == ["key-of-team", "us-west-2"]


def test_keys_in_the_environment_go_before_profiles_but_for_one_that_is_named(
    server: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "team")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    _ask(S3Settings())
    assert server.signed_by == ["key-of-environment", "us-east-1"]
    _ask(S3Settings(profile_name="team"))
    assert server.signed_by == ["key-of-team", "eu-north-1"]


def test_the_io_manager_takes_the_settings_of_an_s3_resource(server: Seen, tmp_path: Path) -> None:
    manager = ArtifactIOManager(
        url="s3://bucket",
        cache_dir=str(tmp_path),
        endpoint_url=server.url,
        profile_name="team",
        max_attempts=1,
    )
    with pytest.raises(ArtifactError, match="access denied"):
        manager.store.names()
    assert server.signed_by == ["key-of-team", "eu-north-1"]
    with pytest.raises(ArtifactError, match="access denied"):
        ObjectStore("s3://bucket", S3Settings(use_unsigned_session=True)).keys("x")
    assert "authorization" not in server.headers


def test_content_is_signed_where_no_tls_guards_it(server: Seen) -> None:
    with pytest.raises(ArtifactError, match="access denied"):
        ObjectStore("s3://bucket", S3Settings()).write("key", b"content")
    assert re.fullmatch("[0-9a-f]{64}", server.headers["x-amz-content-sha256"])
    assert s3_arguments(S3Settings(endpoint_url="https://s3.example"))["config"]["unsigned_payload"]


def test_a_profile_that_cannot_be_used_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"profile nobody.* known profiles: .*team"):
        ObjectStore("s3://bucket", S3Settings(profile_name="nobody"))
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(
        ConfigurationError, match=r"profile team is read by boto3, which is not installed here"
    ):
        ObjectStore("s3://bucket", S3Settings(profile_name="team"))
