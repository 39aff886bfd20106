"""Every parser of ours for bytes from outside, as a function of bytes, with examples of its input.

Only an error of our own may come out of one, in bounded time and memory.
"""

import bz2
import contextlib
import gzip
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.names import parse_epochs
from dolly_assets.core.urls import check_no_password
from dolly_assets.datasets.catalogue import Catalogue
from dolly_assets.datasets.formats import read_file
from dolly_assets.datasets.inbox import Inbox
from dolly_assets.datasets.layout import choose_files
from dolly_assets.launchers.kubernetes.settings import KubernetesSettings
from dolly_assets.launchers.kubernetes.watch import LogStream
from dolly_assets.planning.model_shape import ModelShape, read_config
from dolly_assets.planning.prices import Prices
from dolly_assets.profiling.analysis.summary import SUMMARY_FILE, ReportSummary
from dolly_assets.profiling.series.samples import last_sample_at, write_samples
from dolly_assets.profiling.series.steplog import read_steps
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.storage.artifact import artifact_name
from dolly_assets.storage.gc import RetentionPolicy, read_dropped
from dolly_assets.storage.manifest import FileEntry, Manifest, is_record, seal
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.storage.ranks import find
from dolly_assets.storage.tables import open_table
from dolly_assets.training.checkpoint.layout import join
from dolly_assets.training.checkpoint.tensors import weights_sha256
from dolly_assets.training.checkpoint.unpickling import check_pickle
from dolly_assets.training.context import Context
from dolly_assets.training.loop.progress import PROGRESS_FILE, Progress
from dolly_assets.worker.message_store import new_messages
from dolly_assets.worker.messages import Log, Stopping, read_message
from dolly_assets.worker.profiles.live import left_behind
from dolly_assets.worker.spec import read_spec
from dolly_assets_tests.kubernetes.directed import Directed
from dolly_assets_tests.profiling.test_steplog import STEP

PAIRS = [{"instruction": "Add 1 and 2.", "context": "", "response": "3"}] * 2
NAME = "demo/model_checkpoint/alpaca/01"
STAMP = "20260101T000000.000000Z-0123456789abcdef"


class Target(NamedTuple):
    """A parser and what it reads without an error."""

    parse: Callable[[bytes], object]
    examples: Callable[[], list[bytes]]


TARGETS: dict[str, Target] = {}


def _target(
    *examples: bytes | Callable[[], bytes],
) -> Callable[[Callable[[bytes], object]], Callable[[bytes], object]]:
    def add(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
        TARGETS[parse.__name__] = Target(
            parse, lambda: [item if isinstance(item, bytes) else item() for item in examples]
        )
        return parse

    return add


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="untrusted-"))


def _file(name: str, data: bytes) -> Path:
    path = _scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@cache
def _store() -> ObjectStore:
    return ObjectStore("memory:///untrusted")


def _put(key: str, data: bytes) -> ObjectStore:
    _store().write(key, data)
    return _store()


def _sealed(data: bytes) -> bytes:
    """Give a JSON object the hash that a record needs, as whoever may write can; else as it is."""
    try:
        record = json.loads(data)
        record.pop("record_sha256", None)
        return seal(record)
    except (ValueError, AttributeError, RecursionError, TypeError):
        return data


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _record() -> Manifest:
    small = FileEntry(path="a", size_bytes=3, sha256="0" * 64)
    big = FileEntry(path="b", size_bytes=3, sha256="1" * 64, chunk_bytes=2, chunks=("2" * 64,) * 2)
    return Manifest(
        name=NAME,
        kind="k",
        files=(small, big),
        inputs={"x": "y"},
        attributes={"loss": 1.0},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@_target(lambda: _record().to_json())
def record(data: bytes) -> None:
    data = _sealed(data)
    try:
        stated = json.loads(data)
        key = Manifest.model_validate({k: v for k, v in stated.items() if k in _FIELDS}).key
    except Exception:  # noqa: BLE001 any key will do
        key = f"manifests/{NAME}/{STAMP}.json"
    for entry in Manifest.from_json(data, key).files:
        len(entry.blobs)


_FIELDS = frozenset(Manifest.model_fields)


@_target(f"{STAMP}.json".encode(), NAME.encode(), b"raw_dataset/demo")
def name(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    is_record(text)
    with contextlib.suppress(ArtifactError):
        artifact_name([text], text)
    assert ArtifactAddress.parse(text).name


@_target(
    _json({"schema_version": 1, "folders": ["state"], "dropped_at": "2026-01-01T00:00:00Z"}),
)
def dropped(data: bytes) -> None:
    store = _put(f"manifests/a/{STAMP}.dropped", _sealed(data))
    read_dropped(store, f"manifests/a/{STAMP}.json")


@_target(
    _json({"schema_version": 1, "rank": 0, "files": [], "sent_bytes": 1}),
    lambda: _json(
        {
            "schema_version": 1,
            "rank": 0,
            "files": [json.loads(_record().files[1].model_dump_json())],
        }
    ),
)
def rank(data: bytes) -> None:
    find(_put("pending/a/0.json", _sealed(data)), "pending/a/0.json")


def _dataset(name: str) -> Callable[[bytes], object]:
    return lambda data: read_file(_file(f"datasets/{name}", data), source="x")


def _csv() -> bytes:
    return b'instruction,context,response\n"Add 1 and 2.","",3\r\n"a ""b""\n",c,d\n'


def _parquet() -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(PAIRS), written)
    return written.getvalue()


def _arrow() -> bytes:
    table = pa.table({"input_ids": [[1, 2], [3]], "text": ["a", "b"], "row": [0, 1]})
    written = io.BytesIO()
    with pa.ipc.new_file(written, table.schema) as file:
        file.write_table(table)
    return written.getvalue()


def _arrow_stream(*, encoded: bool = False) -> bytes:
    table = pa.Table.from_pylist(PAIRS)
    if encoded:
        columns = [column.combine_chunks().dictionary_encode() for column in table.columns]
        table = pa.table(columns, table.column_names)
    written = io.BytesIO()
    with pa.ipc.new_stream(written, table.schema) as file:
        file.write_table(table)
    return written.getvalue()


def _zstd(data: bytes) -> bytes:
    written = pa.BufferOutputStream()
    with pa.CompressedOutputStream(written, "zstd") as packed:
        packed.write(data)
    return written.getvalue().to_pybytes()


_JSONL = b"\n".join(map(_json, PAIRS)) + b"\n"
for _suffix, _example in {
    ".json": lambda: _json(PAIRS),
    ".jsonl": lambda: _JSONL,
    ".csv": _csv,
    ".tsv": lambda: b"instruction\tresponse\na\tb\n",
    ".parquet": _parquet,
    ".arrow": _arrow_stream,
    ".json.gz": lambda: gzip.compress(_json(PAIRS)),
    ".jsonl.zst": lambda: _zstd(_JSONL),
    ".csv.bz2": lambda: bz2.compress(_csv()),
    ".ARROW": lambda: _arrow_stream(encoded=True),
}.items():
    TARGETS[f"dataset{_suffix}"] = Target(_dataset(f"x{_suffix}"), lambda e=_example: [e()])

_TURNS = [
    {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
    {"role": "user", "content": "Rain?"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": "no"},
    {"role": "assistant", "content": "<think>\n?</think>No.", "weight": 1},
]
_SPOKEN = [
    {"from": "human", "value": "Rain?"},
    {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
    {"from": "observation", "value": "no"},
    {"from": "gpt", "value": "No."},
]
_TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
_CHATML = "<|im_start|>user\nRain?<|im_end|>\n<|im_start|>assistant\nNo.<|im_end|>\n"
_CHATS = [{"messages": _TURNS, "tools": _TOOLS, "id": "7"}, {"messages": _TURNS[1:], "source": "x"}]


def _chat_parquet() -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{"messages": _TURNS[1:]}] * 2), written)
    return written.getvalue()


def _chat_arrow() -> bytes:
    table = pa.Table.from_pylist([{"conversations": _SPOKEN, "tools": json.dumps(_TOOLS)}] * 2)
    written = io.BytesIO()
    with pa.ipc.new_stream(written, table.schema) as file:
        file.write_table(table)
    return written.getvalue()


for _name, _suffix, _example in (
    ("messages", ".jsonl", lambda: b"\n".join(map(_json, _CHATS))),
    ("messages", ".parquet", _chat_parquet),
    ("sharegpt", ".json", lambda: _json([{"conversations": _SPOKEN, "tools": json.dumps(_TOOLS)}])),
    ("sharegpt", ".arrow", _chat_arrow),
    ("prompt", ".jsonl", lambda: _json({"prompt": _TURNS[:2], "completion": _TURNS[2:]})),
    ("chatml", ".jsonl", lambda: _json({"text": _CHATML, "category": "rain"})),
    (
        "history",
        ".jsonl",
        lambda: _json({"system": "a", "history": [["b", "c"]], "prompt": "d", "output": "e"}),
    ),
):
    TARGETS[f"{_name}{_suffix}"] = Target(_dataset(f"x{_suffix}"), lambda e=_example: [e()])


@_target(
    b"---\nlicense: mit\nconfigs:\n"
    b"- config_name: en\n  data_files:\n  - {split: train, path: en/*}\n"
    b"- config_name: fr\n  data_dir: fr\n  default: true\n---\n# A\n",
    b"# nothing\n",
)
def hub_card(data: bytes) -> None:
    choose_files(["README.md", "en/a.jsonl", "fr/train.csv"], lambda _: data, source="x")


@_target(b'{"_data_files": [{"filename": "a.arrow"}, {"filename": "b.arrow"}]}')
def saved_state(data: bytes) -> None:
    choose_files(["a.arrow", "b.arrow", "state.json"], lambda _: data, source="x")


@_target(b'{"splits": ["train", "test"]}')
def saved_splits(data: bytes) -> None:
    choose_files(["train/a.arrow", "dataset_dict.json"], lambda _: data, source="x")


@_target(b"license: mit\nanswers: open\ndescription: 'a: b'\n", b"# nothing\n")
def card(data: bytes) -> None:
    inbox = Inbox("memory:///untrusted-inbox")
    store = ObjectStore("memory:///untrusted-inbox")
    store.write("x.jsonl", b"{}")
    store.write("x.yaml", data)
    Catalogue(_store(), (), inbox).all()
    inbox.config(inbox.arrivals()["x"])


@_target(_json({"name": "x", "source": "hf://a/b", "license": "mit", "schedule": "0 6 * * *"}))
def catalogue(data: bytes) -> None:
    objects = ObjectStore("memory:///untrusted-catalogue")
    objects.write("catalogue/x.json", data)
    Catalogue(objects, ()).all()


@_target(
    b"grace_hours: 24\nrules:\n  - artifacts: '*'\n    publications: 3\n    folders: {state: 2}\n"
)
def policy(data: bytes) -> None:
    RetentionPolicy.read(_file("policy.yaml", data)).rule_for(NAME)


@_target(b"namespace: a\nimage: b\nconfig: {container_config: {env: []}}\n")
def kubernetes_settings(data: bytes) -> None:
    KubernetesSettings.read(_file("kubernetes.yaml", data))


@_target(b"as_of: 2026-01-01\ngpu_hour_usd:\n  H100: 2.5\n")
def prices(data: bytes) -> None:
    Prices.read(_file("prices.yaml", data))


def _message(**payload: object) -> bytes:
    return _json({"method": "report_custom_message", "params": {"payload": payload}})


@_target(
    _json({"method": "opened", "params": {}}),
    _message(event="log", text="a"),
    _message(event="published", name=NAME, digest="0" * 64),
    _message(event="failed", rank=1, error="a", by_user=True),
    _message(event="stopping", seconds=1.5),
)
def message(data: bytes) -> None:
    found = read_message(data)
    if isinstance(found, Log | Stopping):
        found.text.encode()


@_target(b"01700000000000000000-pod-0-0.json\n00000000000000000001-a-1.json", b"x/y.json\n1-2-3")
def message_keys(data: bytes) -> None:
    store = ObjectStore("memory:///untrusted-messages")
    store.delete(store.keys("messages/job"))
    seen: set[str] = set()
    for key in data.decode(errors="replace").split("\n")[:9]:
        with contextlib.suppress(ArtifactError, ValueError):  # no store accepts it
            store.write(f"messages/job/{key}", b"1")
        list(new_messages(store, "messages/job", seen))


@_target(lambda: _json(asdict(STEP)) + b"\n" + _json(asdict(STEP)) + b"\n")
def steps(data: bytes) -> None:
    read_steps(_file("steps/steps-00000.jsonl", data).parent)


@_target(_json({"time_seconds": 1.0, "gpu": {"0": {"power_watts": 2, "energy_joules": 3}}}) + b"\n")
def samples(data: bytes) -> None:
    file = _file("samples.jsonl", data)
    last_sample_at(file)
    found = write_samples(file, 0.0, 1e10, _scratch() / "samples.parquet")
    for series in found.series:
        found.get(series)


@_target(_arrow, _arrow_stream, _parquet)
def table(data: bytes) -> None:
    for column in open_table(_file("table", data), "x").columns:
        column.to_pylist()


def _state(latest: bytes, **files: bytes) -> None:
    folder = Path(tempfile.mkdtemp(dir=_scratch()))
    state = folder / "state"
    (state / "global_step1").mkdir(parents=True)
    for path, content in {
        "trainer_state.json": b"{}",
        "latest": latest,
        "global_step1/mp_rank_00_model_states.json": b"",
        **files,
    }.items():
        (state / path).write_bytes(content)
    try:
        join(state, folder / "into", ranks=0)
        assert (folder / "into" / "latest").read_text().strip() == "global_step1"
    finally:
        import shutil

        shutil.rmtree(folder)


@_target(b"global_step1", b"global_step1\n", b"../x", b"/tmp")
def latest(data: bytes) -> None:
    _state(data)


def _pickled() -> bytes:
    import torch

    written = io.BytesIO()
    torch.save({"a": torch.zeros(2), "b": [1, "x", None], "c": torch.ones(1).half()}, written)
    return written.getvalue()


def _raw_pickle() -> bytes:
    import pickle

    return pickle.dumps({"a": [1, 2.5, "x", (None, True)]}, protocol=2)


@_target(_pickled, _raw_pickle)
def pickled_state(data: bytes) -> None:
    check_pickle(_file("state.pt", data))


@_target(lambda: _json({"steps": [], "seconds": 1.0, "saving_seconds": 0.5, "work": {}}))
def progress(data: bytes) -> None:
    Progress.read(_file(f"progress/{PROGRESS_FILE}", data).parent)


@_target(
    b"2026-11-30T13:00:00.123456789Z one\n2026-11-30T13:00:01Z two\nno time\n",
    b"2026-11-30T15:00:00.5+02:00 \xff\n",
)
def log_lines(data: bytes) -> None:
    def read(**_: object) -> list[bytes]:
        return data.splitlines(keepends=True)

    with contextlib.redirect_stderr(io.StringIO()):
        log = LogStream(read, lambda: True, "")
        log.finish(10)
    assert not log._thread.is_alive()  # pyright: ignore[reportPrivateUsage]


def _spec() -> bytes:
    spec = Directed(_scratch(), cluster=None).spec  # pyright: ignore[reportArgumentType]
    return spec.model_dump_json().encode()


@_target(_spec)
def worker_spec(data: bytes) -> None:
    read_spec(data)


@_target(b"3", b"1-3", b" 01-02 ")
def epochs(data: bytes) -> None:
    parse_epochs(data.decode(errors="surrogateescape"), 12)


@_target(b"https://user:password@host/x?token=1", b"s3://bucket/prefix")
def url(data: bytes) -> None:
    check_no_password(data.decode(errors="surrogateescape"), "the URL")


def _safetensors() -> bytes:
    header = _json(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [8, 12]},
        }
    )
    return len(header).to_bytes(8, "little") + header + bytes(12)


@_target(_safetensors)
def safetensors(data: bytes) -> None:
    weights_sha256(_file("weights/model.safetensors", data).parent)


@_target(_json({"metadata": {}, "weight_map": {"a": "model.safetensors"}}))
def safetensors_index(data: bytes) -> None:
    _file("index/model.safetensors", _safetensors())
    weights_sha256(_file("index/model.safetensors.index.json", data).parent)


@_target(
    _json({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "vocab_size": 9}),
    _json({"text_config": {"n_embd": 8, "n_layer": 2, "n_head": 2, "max_position_embeddings": 9}}),
)
def model_config(data: bytes) -> None:
    config = read_config(data, "x")
    Context.of(config)
    ModelShape.of(config, parameters=9, vocabulary_rows=9, tied_embeddings=True, name="x")


@_target(
    _json(
        {
            "family": "a",
            "dataset": "b",
            "run_id": "run",
            "training": "t",
            "tokenized_dataset": "0",
            "epoch": 1,
            "started_at": 1,
            "refreshed_at": 2,
            "made_by": {},
        }
    )
)
def live_state(data: bytes) -> None:
    left_behind(_put("live/a/b/run/state.json", data), "a", "b")


@_target(
    lambda: Path(__file__).with_name("profiling").joinpath("version_0_1/report.json").read_bytes()
)
def report_summary(data: bytes) -> None:
    ReportSummary.read(_file(f"report/{SUMMARY_FILE}", data).parent)
