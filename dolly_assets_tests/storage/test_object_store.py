"""URLs, and how stores fail: one line that names the URL and what to do, and no secret."""

import os
from pathlib import Path

import pytest

from dolly_assets.core.errors import ArtifactError, ConfigurationError
from dolly_assets.storage import ArtifactStore
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.s3 import S3Settings


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "s3://",
        "s3:/bucket",
        "ftp://host/x",
        "http://host/x",
        "file://host/x",
        "memory://x",
        "azure:x",
    ],
)
def test_a_url_that_names_no_store_says_what_is_expected(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"expected a local path|three slashes"):
        ObjectStore(url)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    for url in ("s3://key:hunter2@bucket/x", "az://container/x?sig=hunter2"):
        with pytest.raises(ConfigurationError, match="environment variables") as caught:
            ObjectStore(url)
        assert "hunter2" not in str(caught.value)


def test_local_paths_and_file_urls_are_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ObjectStore("my store").url == ObjectStore(f"file://{tmp_path}/my%20store").url
    assert ObjectStore("my store").url == f"file://{tmp_path}/my%20store"
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be a store"):
        ObjectStore("file")


def test_a_missing_bucket_is_named(s3: str, tree: Path, tmp_path: Path) -> None:
    store = ArtifactStore("s3://no-such-bucket/x", tmp_path / "cache")
    for use in (
        lambda: store.publish("a", tree, kind="k"),
        lambda: store.latest("a"),
        lambda: list(store.verify()),
        store.names,
    ):
        with pytest.raises(
            ConfigurationError, match="s3://no-such-bucket/x: the bucket does not exist"
        ):
            use()


def test_an_endpoint_that_cannot_be_reached_is_named(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(
        ArtifactError, match=r"cannot be reached.*now http://127.0.0.1:9\)"
    ) as caught:
        ObjectStore(s3, S3Settings(max_attempts=2)).keys("x")
    assert "\n" not in str(caught.value)


def test_plain_http_is_for_this_machine_unless_allowed(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.example:9000")
    with pytest.raises(ConfigurationError, match="AWS_ALLOW_HTTP=true"):
        ObjectStore(s3)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    ObjectStore(s3)


def test_a_denied_request_names_the_url_and_no_secret(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers 403 to all, as Amazon does to a wrong key."""
    import http.server
    import threading

    class Denies(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    with http.server.HTTPServer(("127.0.0.1", 0), Denies) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(
            ArtifactError, match=r"s3://artifacts/some/prefix/a: access denied"
        ) as caught:
            ObjectStore(s3).keys("a")
        server.shutdown()
    assert "test-secret" not in str(caught.value)


def test_a_new_object_never_replaces_another(any_url: str) -> None:
    store = ObjectStore(any_url)
    assert store.create("a/b", b"first")
    assert not store.create("a/b", b"second")
    assert store.read_all("a/b") == b"first"
    assert store.keys("a") == store.keys("a", recursive=False) == ["a/b"]
    assert store.keys("", recursive=False) == []
    assert (store.keys("a", after="a/a"), store.keys("a", after="a/b")) == (["a/b"], [])
    assert (store.size_bytes("a/b"), store.size_bytes("a/c")) == (5, None)


@pytest.mark.parametrize("name", [b"a\nb", b"a\x7fb", b"\xff", b"odd\nfolder/a"])
def test_a_file_whose_name_is_no_key_hides_no_other(
    tmp_path: Path, name: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """One odd upload would otherwise stop an inbox, and everything that lists the store."""
    store = ObjectStore(str(tmp_path))
    for key in ("a/1", "a/2", "a/b/3", "z"):
        store.write(key, b"data")
    for folder in (tmp_path / "a", tmp_path):
        odd = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        odd.parent.mkdir(exist_ok=True)
        odd.write_bytes(b"odd")
    (tmp_path / "a" / "unfinished#1").write_bytes(b"")
    for _ in range(2):
        assert store.keys("a") == ["a/1", "a/2", "a/b/3"]
        assert store.keys("a", after="a/1") == ["a/2", "a/b/3"]
        assert store.keys("a", recursive=False) == ["a/1", "a/2"]
        assert store.keys("") == ["a/1", "a/2", "a/b/3", "z"]
    assert len(caplog.messages) == 2
