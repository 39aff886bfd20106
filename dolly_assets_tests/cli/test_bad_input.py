"""Whatever is wrong, a user reads one line: what, where, what to do. Exit code 2; nothing is lost.

Commands that need no worker run in this process, which is the same code from `main` on; the others
are processes.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets_tests.home import TINY_FAMILY, Home
from dolly_assets_tests.in_process import dolly, new_variables, refusal

LONG_LINE_BYTES = 200 * 2**20
MOST_MEMORY_BYTES = 450 * 2**20  # Dagster takes 200 MiB of it, a line of the longest kind 64
GOOD = '{"instruction": "a", "response": "b"}\n'
END_SECONDS = 60
DATASETS = """\
type: dolly_assets.components.DatasetsComponent
attributes:
  datasets:
  - {{name: new, source: '{source}'}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a dataset and an artifact in its store."""
    folder = tmp_path_factory.mktemp("home")
    variables = new_variables(folder)
    (folder / "good.jsonl").write_text(GOOD)
    assert dolly(variables, "datasets", "add", "good", str(folder / "good.jsonl")).exit_code == 0
    ArtifactStore(str(folder / "store"), folder / "cache").publish(
        "tiny/kept", folder / "defs", kind="kept"
    )
    return folder


@pytest.fixture
def variables(home: Path) -> Iterator[dict[str, str]]:
    """The home's environment; whatever a test does, the store is as before."""
    before = stored(home)
    yield {
        "DOLLY_HOME": str(home),
        "DOLLY_DEFS": str(home / "defs"),
        "DOLLY_STORE": "",
        "DAGSTER_HOME": "",
    }
    assert stored(home) == before


def stored(home: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in (home / "store").rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.jsonl", b"", "{file}: the file is empty; a dataset needs at least one example"),
        (
            "lacking.jsonl",
            (GOOD + '{"instruction": "a"}\n').encode(),
            "{file}: record 2 (line 2): the response is missing; fill it in or remove the record",
        ),
        ("columns.csv", b"foo,bar\n1,2\n", "{file}: no column for 'instruction'"),
        (
            "broken.jsonl",
            (GOOD * 2 + '{"instruction": "a"\n').encode(),
            "{file}: line 3, column 20: broken JSON: Expecting ',' delimiter; a JSONL file has one "
            "complete object",
        ),
        (
            "latin.csv",
            "instruction,response\na,café\n".encode("latin-1"),
            "{file}: line 2: byte 26 of the file is not UTF-8 (0xe9, invalid continuation byte); "
            "save the file",
        ),
        (
            "text.txt",
            b"hello",
            "unknown file type; expected a name that ends in one of .json, .jsonl, .csv",
        ),
        ("cut.jsonl.gz", b"\x1f\x8b\x08\x00", "{file}: not a complete gzip file"),
        ("noise.parquet", b"PAR1 or not", "{file}: not a readable Parquet file"),
    ],
)
def test_a_file_that_is_no_dataset_is_refused(
    variables: dict[str, str], tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert expected.format(file=file) in refusal(variables, "datasets", "add", "new", str(file))
    assert "new" not in dolly(variables, "datasets", "list").stdout.split()


def test_a_missing_file_and_a_folder_are_refused(variables: dict[str, str], tmp_path: Path) -> None:
    missing = refusal(variables, "datasets", "add", "new", f"{tmp_path}/none.jsonl")
    assert f"{tmp_path}/none.jsonl: no such file; check the path" in missing
    assert "a folder without dataset files; expected names that end in" in refusal(
        variables, "datasets", "add", "new", str(tmp_path)
    )


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "A", "", "a b", "a|b", "x" * 64])
def test_a_dataset_name_that_could_leave_its_folder_is_refused(
    variables: dict[str, str], home: Path, name: str
) -> None:
    message = refusal(variables, "datasets", "add", "--", name, str(home / "good.jsonl"))
    assert f"dataset name {name!r} is not allowed: use 1 to 63 of a-z" in message
    assert "is not allowed" in refusal(
        variables, "train", "--model=tiny", f"--dataset={name}", "--epochs=1"
    )


def test_a_name_that_is_taken_is_refused(variables: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text(GOOD)
    message = refusal(variables, "datasets", "add", "good", str(tmp_path / "other.jsonl"))
    assert "dataset 'good' is already " in message


def test_unknown_names_are_refused_with_the_known_ones(variables: dict[str, str]) -> None:
    family = refusal(variables, "train", "--model=nope", "--dataset=good", "--epochs=1")
    assert "unknown model family 'nope'; known: demo, gpt_j_6b, pythia_12b, tiny" in family
    dataset = refusal(variables, "train", "--model=tiny", "--dataset=nope", "--epochs=1")
    assert "unknown dataset 'nope'; known: alpaca, databricks_dolly_15k, demo, good." in dataset
    assert "dolly datasets add NAME SOURCE" in dataset


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ("0-99", "this model family has epochs 0 to 4; raise recipe.epochs"),
        ("5", "this model family has epochs 0 to 4"),
        ("3-1", "run backwards: write 1-3"),
        ("x", "expected a number or a range, such as 3 or 1-3"),
        ("-1", "expected a number or a range"),
        ("1,2", "expected a number or a range"),
        ("", "expected a number or a range"),
        ("٣", "expected a number or a range"),
    ],
)
def test_epochs_that_are_no_range_are_refused(
    variables: dict[str, str], epochs: str, expected: str
) -> None:
    message = refusal(variables, "train", "--model=tiny", "--dataset=good", f"--epochs={epochs}")
    assert f"epochs {epochs!r}" in message
    assert expected in message


def test_a_dolly_defs_that_is_no_folder_is_refused(variables: dict[str, str], home: Path) -> None:
    for path in (home / "none", home / "good.jsonl"):
        message = refusal({**variables, "DOLLY_DEFS": str(path)}, "status")
        assert f"DOLLY_DEFS={path} is not a folder" in message


@pytest.mark.parametrize("command", [["status"], ["datasets", "list"], ["verify"]])
def test_a_home_that_cannot_be_made_is_refused(
    variables: dict[str, str], home: Path, command: list[str]
) -> None:
    under_a_file = home / "good.jsonl" / "home"
    message = refusal({**variables, "DOLLY_HOME": str(under_a_file)}, *command)
    assert (
        f"{under_a_file}/store: cannot be a store: Not a directory; choose a writable folder"
        in message
    )


def test_a_home_that_cannot_hold_the_dagster_instance_is_refused(
    variables: dict[str, str], home: Path, tmp_path: Path
) -> None:
    changed = {
        **variables,
        "DOLLY_HOME": str(home / "good.jsonl"),
        "DOLLY_STORE": str(tmp_path / "store"),
    }
    message = refusal(changed, "datasets", "add", "new", str(home / "good.jsonl"))
    assert f"cannot write to {home}/good.jsonl/dagster: Not a directory; set DOLLY_HOME" in message


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "s3://",
        "https://bucket",
        "s3://key:secret@bucket/x",
        "key:secret@bucket/x",
        "file://key:secret@host/x",
        "file://host/x",
        "https://bucket/x?sig=secret",
    ],
)
def test_a_store_that_is_no_store_is_refused_without_telling_secrets(
    variables: dict[str, str], url: str
) -> None:
    message = refusal({**variables, "DOLLY_STORE": url}, "status")
    assert "store" in message.lower() or "file URL" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    "source",
    [
        "https://user:secret@host/x.jsonl",
        "https://user:a/secret@host/x.jsonl",
        "s3://key:secret@bucket/x.jsonl",
        "user:secret@host/x.jsonl",
        "https://host/x.jsonl?X-Amz-Signature=secret",
    ],
)
def test_a_source_with_a_password_is_refused_without_telling_it(
    variables: dict[str, str], home: Path, source: str
) -> None:
    assert "secret" not in refusal(variables, "datasets", "add", "new", source)
    file = home / "defs" / "sets" / "defs.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(DATASETS.format(source=source))
    try:
        listed = dolly(variables, "datasets", "list")
        assert "?" in source or (listed.exit_code == 2 and "sets/defs.yaml" in listed.stderr)
        assert "?" in source or "secret" not in listed.output
        model = TINY_FAMILY.replace("untrained:", f"source: '{source}'\n    untrained:")
        file.write_text(model)
        assert "secret" not in refusal(variables, "status")
    finally:
        shutil.rmtree(file.parent)


def test_a_port_that_is_taken_is_refused(variables: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refusal(variables, "ui", "--port", str(port))
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in message
    assert "choose another --port" in message


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http"])
def test_a_port_that_is_none_is_a_usage_error(variables: dict[str, str], port: str) -> None:
    result = dolly(variables, "ui", "--port", port)
    assert result.exit_code == 2
    assert "Invalid value for '--port'" in result.stderr


def test_a_checkpoint_that_is_not_there_cannot_be_talked_to(variables: dict[str, str]) -> None:
    message = refusal(variables, "chat", "--model=tiny", "--dataset=good", "--epoch=2", "hello")
    assert "tiny/model_checkpoint, partition good|02, is not in the store" in message


@pytest.mark.slow
def test_a_line_of_200_mb_is_refused_in_bounded_memory(
    variables: dict[str, str], tmp_path: Path
) -> None:
    """The file is sparse; the child reports its own peak memory (getrusage adds its parent)."""
    file = tmp_path / "long.jsonl"
    with file.open("wb") as stream:
        stream.write(GOOD.encode() + b'{"instruction": "')
        stream.truncate(LONG_LINE_BYTES)
    code = (
        "import atexit, pathlib, re\n"
        "status = lambda: pathlib.Path('/proc/self/status').read_text()\n"
        "atexit.register(lambda: print(re.search(r'VmHWM:\\s*(\\d+) kB', status())[1]))\n"
        "from dolly_assets.cli.main import main; main()"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, "datasets", "add", "new", str(file)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 2
    assert (
        process.stderr
        == f"dolly: {file}: line 2 is longer than 67108864 bytes; split or remove it\n"
    )
    assert int(process.stdout) * 1024 < MOST_MEMORY_BYTES


def test_a_base_model_that_is_no_model_is_refused_by_the_worker(
    new_home: Callable[[], Home],
) -> None:
    home = new_home()
    (home.path / "defs" / "tiny" / "model").mkdir()
    (home.path / "defs" / "tiny" / "model" / "readme.txt").write_text("later")
    before, after = TINY_FAMILY.split("    untrained:")[0], TINY_FAMILY.split("      seed: 1\n")[1]
    (home.path / "defs" / "tiny" / "defs.yaml").write_text(f"{before}    source: ./model\n{after}")
    process = home.start("train", "--model=tiny", "--dataset=animals", "--epochs=1")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    folder = home.path / "defs" / "tiny" / "model"
    assert error == f"dolly: {folder}: not a model: config.json is missing; found readme.txt\n"


def test_ctrl_c_ends_a_training_with_one_line_and_no_process_left(
    new_home: Callable[[], Home],
) -> None:
    """Other lines of `dolly` and its workers are allowed, but no traceback of ours."""
    home = new_home()
    process = home.start("train", "--model=tiny", "--dataset=animals", "--epochs=1-4")
    checkpoint = home.path / "store/manifests/tiny/model_checkpoint/animals/01"
    _until(lambda: list(checkpoint.glob("*.json")), process)
    tree = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 130
    assert error.endswith(
        "dolly: stopped; published epochs are kept, run the same command to resume\n"
    )
    assert "dolly_assets/" not in error
    _, alive = psutil.wait_procs(tree, END_SECONDS)
    assert not alive
    assert home.status()[1]["digest"]
    assert "0 damaged files" in home.dolly("verify")


@pytest.mark.long
def test_a_full_disk_is_named_and_what_was_published_stays_whole(
    trained: Home, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The home is a small file system: the next epoch does not fit, and later not even a line."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    request.addfinalizer(lambda: subprocess.run(["umount", "--lazy", str(tmp_path)], check=True))
    shutil.copytree(trained.path, tmp_path / "home")
    path = tmp_path / "home"
    home = Home(path)
    before = home.status()

    _fill(tmp_path, leave_bytes=1_500_000)
    message = home.dolly("train", "--model=tiny", "--dataset=animals", "--epochs=3", code=2)
    assert f"{path}/scratch/" in message or "disk is full" in message
    assert "free some space" in message

    _fill(tmp_path, leave_bytes=0)
    message = home.dolly("train", "--model=tiny", "--dataset=animals", "--epochs=3", code=2)
    assert message.count("\n") == 1
    assert "free some space" in message

    assert "0 damaged files" in home.dolly("verify")
    assert home.status() == before


def _fill(folder: Path, *, leave_bytes: int) -> None:
    filler = folder / "filler"
    filler.unlink(missing_ok=True)
    os.sync()
    size_bytes = shutil.disk_usage(folder).free - leave_bytes
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)


def _until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
