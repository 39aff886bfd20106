"""Local files are real.

S3 is moto's server, reached over HTTP. The Hub is an HTTP server with one dataset.

A child process talks to the Hub, as its libraries take their endpoint from the environment when
imported.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from moto.server import ThreadedMotoServer

from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets import source_files
from dolly_assets.datasets.demo import generate
from dolly_assets.datasets.sources import read_source, source_version

CONTENT = b'{"instruction": "a", "input": "c", "output": "b", "text": "t"}\n'
ROWS = [{"instruction": "a", "context": "c", "response": "b", "category": ""}]
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_the_demo_is_built_in() -> None:
    source = read_source("builtin:demo")

    assert source.format == "generated"
    assert source.table.equals(generate())


def test_an_unknown_built_in_dataset_is_refused() -> None:
    with pytest.raises(DatasetError, match="the only one is builtin:demo"):
        read_source("builtin:alpaca")


@pytest.mark.parametrize(
    "form", ["absolute", "./a.jsonl", "../here/a.jsonl", "~/a.jsonl", "a.jsonl", "sub/a.jsonl"]
)
def test_a_local_file_is_read_whichever_way_it_is_written(form, tmp_path, monkeypatch) -> None:
    here = tmp_path / "here"
    (here / "sub").mkdir(parents=True)
    for path in (here / "a.jsonl", here / "sub" / "a.jsonl"):
        path.write_bytes(CONTENT)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))

    source = read_source(str(here / "a.jsonl") if form == "absolute" else form)

    assert source.table.to_pylist() == ROWS
    assert (source.format, source.dropped_columns) == ("jsonl", ("text",))
    assert source.revision == f"sha256:{SHA256}"


def test_a_missing_file_is_named_by_its_absolute_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DatasetError, match=f"{tmp_path}/no.jsonl: no such file"):
        read_source("./no.jsonl")
    with pytest.raises(DatasetError, match=rf"expected .*Hub id.* no file {tmp_path}/no\.jsonl"):
        read_source("no.jsonl")


def test_a_folder_is_all_its_files_by_name(tmp_path) -> None:
    (tmp_path / "b.jsonl").write_bytes(CONTENT)
    (tmp_path / "a.jsonl").write_bytes(CONTENT)
    (tmp_path / "readme.md").write_text("not data")
    assert (
        read_source(f"{tmp_path}/").table.num_rows
        == 2 * read_source(f"{tmp_path}/a.jsonl").table.num_rows
    )


def test_a_folder_without_dataset_files_is_refused(tmp_path) -> None:
    with pytest.raises(DatasetError, match=f"{tmp_path}: a folder without dataset files"):
        read_source(str(tmp_path))


def test_a_source_that_is_no_dataset_is_refused_in_bounded_time(tmp_path, monkeypatch) -> None:
    with pytest.raises(DatasetError, match=r"/: the whole file system; name the folder of one"):
        read_source("/")
    monkeypatch.chdir("/usr")
    with pytest.raises(DatasetError, match="the whole file system"):
        read_source("../..")
    monkeypatch.setattr(source_files, "MAX_ENTRIES", 30)
    for number in range(31):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(DatasetError, match="more than 30 files and folders; name the folder of"):
        read_source(str(tmp_path))


@pytest.mark.parametrize("start", ["", "/", "./", "~", "~nobody-of-this-name/", "s3://data/"])
def test_a_source_that_is_too_long_or_names_no_home_is_refused(start) -> None:
    with pytest.raises(DatasetError, match=r"is not a dataset source: it has 5,000 characters"):
        read_source(start + "a" * (5000 - len(start)))
    if not start.startswith("s3"):
        with pytest.raises(DatasetError, match=r"File name too long|is not a dataset source|home"):
            read_source(start + "a" * 300)


def test_a_link_to_a_missing_file_is_refused(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_bytes(CONTENT)
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "gone.jsonl")

    with pytest.raises(DatasetError, match=r"b\.jsonl: a link to a file that is missing"):
        read_source(str(tmp_path))


def test_a_fragment_may_be_part_of_a_file_name(tmp_path) -> None:
    (tmp_path / "a#b.jsonl").write_bytes(CONTENT)

    assert read_source(f"{tmp_path}/a#b.jsonl").table.to_pylist() == ROWS


def test_of_a_prefix_in_s3_the_train_split_of_the_chosen_configuration_is_read(bucket) -> None:
    for key in ("clone/en/train.jsonl", "clone/fr/train.jsonl", "clone/fr/test.jsonl"):
        bucket.put_object(Key=key, Body=CONTENT)

    with pytest.raises(DatasetError, match=r"s3://data/clone/: several configurations: 'en', 'fr'"):
        read_source("s3://data/clone/")
    source = read_source("s3://data/clone/#fr")
    assert source.files == {"fr/train.jsonl": 1}
    assert source.left_out["fr/test.jsonl"] == "split test"
    assert source_version("s3://data/clone/#fr") != source_version("s3://data/clone/#en")


def test_the_version_of_a_source_follows_its_content(tmp_path, bucket) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(CONTENT)
    bucket.put_object(Key="a.jsonl", Body=CONTENT)
    before = [source_version(source) for source in (str(path), f"{tmp_path}/", "s3://data/a.jsonl")]
    assert before == [
        source_version(source) for source in (str(path), f"{tmp_path}/", "s3://data/a.jsonl")
    ]
    path.write_bytes(CONTENT * 2)
    bucket.put_object(Key="a.jsonl", Body=CONTENT * 2)
    after = [source_version(source) for source in (str(path), f"{tmp_path}/", "s3://data/a.jsonl")]
    assert all(new != old for new, old in zip(after, before, strict=True))


def test_a_prefix_in_s3_is_all_files_below_it(bucket) -> None:
    for key in ("many/a.jsonl", "many/deep/b.jsonl", "other/c.jsonl"):
        bucket.put_object(Key=key, Body=CONTENT)
    assert (
        read_source("s3://data/many/").table.num_rows
        == 2 * read_source("s3://data/other/c.jsonl").table.num_rows
    )


def test_an_error_in_a_file_names_its_absolute_path(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.jsonl").write_bytes(CONTENT + b"{\n")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DatasetError, match=f"{tmp_path}/a.jsonl: line 2, column 2"):
        read_source("./a.jsonl")


@pytest.fixture(scope="module")
def s3_endpoint():
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    bucket = boto3.resource("s3", region_name="us-east-1").Bucket("data")  # pyright: ignore[reportAttributeAccessIssue]
    bucket.create()
    yield bucket
    bucket.objects.delete()
    bucket.delete()


def test_a_file_in_s3_is_read_in_as_many_parts_as_it_takes(bucket, monkeypatch) -> None:
    monkeypatch.setattr(source_files, "DOWNLOAD_BYTES", 7)
    bucket.put_object(Key="folder/a b.jsonl", Body=CONTENT)

    source = read_source("s3://data/folder/a b.jsonl")

    assert source.table.to_pylist() == ROWS
    assert source.format == "jsonl"
    assert source.revision == f"sha256:{SHA256}"


def test_a_missing_object_or_bucket_is_refused_with_its_url(bucket) -> None:
    with pytest.raises(DatasetError, match=r"s3://data/no\.jsonl: no such object"):
        read_source("s3://data/no.jsonl")
    with pytest.raises(DatasetError, match=r"s3://nowhere/no\.jsonl: no such object; check bucket"):
        read_source("s3://nowhere/no.jsonl")


def test_an_error_in_an_object_names_its_url(bucket) -> None:
    bucket.put_object(Key="a.jsonl", Body=CONTENT + b"{\n")

    with pytest.raises(DatasetError, match=r"s3://data/a\.jsonl: line 2, column 2"):
        read_source("s3://data/a.jsonl")


@pytest.mark.parametrize("source", ["s3://data", "s3://data/", "s3:///a.jsonl"])
def test_an_s3_url_without_bucket_or_file_is_refused(source) -> None:
    with pytest.raises(DatasetError, match="expected s3://bucket/key"):
        read_source(source)


def test_plain_http_is_refused_unless_the_endpoint_is_on_this_machine(bucket, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.example.invalid")

    with pytest.raises(DatasetError, match="unencrypted"):
        read_source("s3://data/a.jsonl")


@pytest.mark.parametrize(
    "source", ["", "squad", "a/b/c", "owner/name@", "http://example.org/a.jsonl", "owner/na me"]
)
def test_what_is_no_source_is_refused_with_the_forms_that_are(source) -> None:
    with pytest.raises(
        DatasetError, match=r"is not a dataset source; expected builtin:demo, s3://"
    ):
        read_source(source)


COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_CARD = b"""---
license: mit
configs:
- config_name: en
  data_files: [{split: train, path: train.jsonl}, {split: test, path: test.jsonl}]
- config_name: fr
  data_files: fr.jsonl
---
"""
HUB_FILES = {
    "name": {"README.md": b"---\nlicense: mit\n---\nA dataset.\n", "train.jsonl": CONTENT},
    "several": {
        "README.md": HUB_CARD,
        "train.jsonl": CONTENT,
        "test.jsonl": CONTENT * 3,
        "fr.jsonl": CONTENT * 2,
    },
}
HUB_INFO = {"sha": COMMIT, "cardData": {"license": "mit"}, "siblings": []}


class Hub(BaseHTTPRequestHandler):
    """Serves `owner/name` and `owner/several` (revision `main` and its commit) and nothing else.

    `owner/busy` is the same behind a first answer that asks to wait for a second, `owner/swamped`
    asks for an hour.
    """

    asked_to_wait = 0

    def do_GET(self) -> None:
        if "/owner/swamped" in self.path or ("/owner/busy" in self.path and not Hub.asked_to_wait):
            Hub.asked_to_wait += "busy" in self.path
            self.answer(429, b"{}", {"Retry-After": "1" if "busy" in self.path else "3600"})
            return
        path = self.path.partition("?")[0].replace("/owner/busy", "/owner/name")
        _, _, below = path.partition("/owner/")
        dataset, _, rest = below.partition("/")
        files = HUB_FILES.get(dataset, {})
        name = path.rpartition("/")[2]
        if files and rest in ("", "revision/main", f"revision/{COMMIT}"):
            self.answer(200, json.dumps({"id": f"owner/{dataset}", **HUB_INFO}).encode())
        elif files and rest == f"tree/{COMMIT}":
            tree = [{"type": "file", "path": n, "size": len(b), "oid": n} for n, b in files.items()]
            self.answer(200, json.dumps(tree).encode())
        elif rest.startswith(f"resolve/{COMMIT}/") and name in files:
            self.answer(200, files[name], {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
        else:
            of_dataset = "RevisionNotFound" if files and "revision" in rest else "RepoNotFound"
            missing = "EntryNotFound" if COMMIT in path else of_dataset
            self.answer(404, b"{}", {"X-Error-Code": missing})

    do_HEAD = do_GET  # noqa: N815

    def answer(self, status, body, headers=None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format, *args) -> None:  # noqa: A002
        pass


READ_ALL = """
import json, sys
from dolly_assets.datasets.sources import read_source
from dolly_assets.core.errors import DatasetError
for name in sys.argv[1:]:
    try:
        s = read_source(name)
        print(
            json.dumps(
                [
                    s.table.to_pylist(), s.format, s.dropped_columns, s.revision, s.license,
                    s.left_out,
                ]
            )
        )
    except DatasetError as error:
        print(json.dumps(str(error)))
"""


def read_in_child(names, folder, **environment):
    keep = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    child = subprocess.run(
        [sys.executable, "-c", READ_ALL, *names],
        env={**keep, "HF_HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in child.stdout.splitlines()]


@pytest.mark.slow
def test_the_hub_is_read_with_commit_and_license_and_waited_for_within_reason(tmp_path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        names = [
            "owner/name",
            "owner/name@main",
            "owner/nothing",
            "owner/name@v9",
            "owner/busy",
            "owner/swamped",
            "owner/several",
            "owner/several@main#en",
            "owner/several#de",
        ]
        latest, main, unknown, vanished, busy, swamped, several, chosen, none = read_in_child(
            names, tmp_path, HF_ENDPOINT=endpoint
        )
        server.shutdown()

    assert latest == main == [ROWS, "hub", ["text"], f"commit:{COMMIT}", "mit", {}]
    assert unknown.startswith("owner/nothing: the Hub does not serve this dataset")
    assert vanished.startswith(
        "owner/name@v9: the Hub does not have this revision, or no longer: name another one"
    )
    assert busy == latest, "it waited for as long as it was asked to"
    assert swamped.startswith("owner/swamped: the Hub responded with too many requests (429)")
    assert "again later" in swamped
    assert several == (
        "owner/several: several configurations: 'en', 'fr'; choose one by its name after a #, such "
        "as owner/several#en"
    )
    assert chosen == [*latest[:-1], {"split test": "3 rows"}]
    assert none == "owner/several: no configuration 'de'; found 'en', 'fr'"


@pytest.mark.parametrize(
    "environment", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}]
)
@pytest.mark.slow
def test_a_hub_dataset_offline_is_refused_with_what_to_do(environment, tmp_path) -> None:
    (error,) = read_in_child(["owner/name"], tmp_path, **environment)

    assert error.startswith("owner/name: the Hub cannot be reached")
    assert "name a file instead" in error
