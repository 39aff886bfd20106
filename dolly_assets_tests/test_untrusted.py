"""No parser lets a foreign exception out: its examples, damaged at random, and what fuzzing found.

`benchmarks/fuzz.py` looks for more.
"""

import contextlib
import random

import pytest

from dolly_assets.core.errors import DollyError
from dolly_assets_tests.untrusted import TARGETS

pytestmark = pytest.mark.slow  # damages every format thousands of times

DAMAGED = 40
PARQUET = TARGETS["dataset.parquet"].examples()[0]
FOUND = [
    # In the footer: pyarrow ended the process when it was asked for a column.
    ("dataset.parquet", PARQUET[:237] + b"\x05" + PARQUET[238:]),
    ("table", b"ARROW1\0\0" + b"\xff" * 40),
    ("steps", b"[" * 100_000 + b"\n"),
    # Arrow's parser of JSON ended the process over it.
    (
        "steps",
        b'null}\n{"step": 1, "rank": 0, "start\0": 1p0.0, "g": null}\n{"step{"step": 1, \xff{"step"'
        b': 1, "rank": 0, "started_s": 90, "flops": 1.0, "pate":{"step": 1, 0.0001, "g "e"r_no:',
    ),
    ("progress", b'{"steps": [{"step": "x"}], "seconds": 1, "saving_seconds": 1, "work": {}}'),
    ("progress", b'{"steps": [], "seconds": 1, "saving_seconds": 1, "work": {"flops": "x"}}'),
    ("safetensors", b"\x40" + bytes(7) + b"[" * 64),
    ("safetensors", b"\x36" + bytes(7) + b'{"a":{"dtype":"F32","shape":[],"data_offsets":[-9,0]}}'),
    ("prices", b"\xff"),
    ("worker_spec", b"[]"),
    ("safetensors_index", b'{"weight_map": ["a"]}'),
    ("safetensors_index", b"[" * 5000),
    ("model_config", b"[]"),
    ("model_config", b'{"hidden_size": 1' + b"0" * 400 + b', "num_hidden_layers": 2}'),
    ("model_config", b'{"text_config": 1, "hidden_size": 8, "num_hidden_layers": 2}'),
    ("model_config", b'{"hidden_size": 8, "num_hidden_layers": 2, "head_dim": "x"}'),
    ("live_state", b"{}"),
    ("name", b"a/b/c/" + b"9" * 5000),
    ("log_lines", b"9999-99-99T00:00:00Z a\nno time\n\n"),
]


def parse(target: str, data: bytes) -> None:
    """Whatever comes out but an error of ours fails the test."""
    with contextlib.suppress(DollyError):
        TARGETS[target].parse(data)


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_input_is_read_or_refused_in_words_of_ours(target: str) -> None:
    chance = random.Random(target)
    for example in TARGETS[target].examples():
        parse(target, example)
        for _ in range(DAMAGED):
            data = bytearray(example)
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(4)] = chance.randbytes(chance.randrange(4))
            parse(target, bytes(data))


@pytest.mark.parametrize(("target", "data"), FOUND)
def test_what_was_found_before_stays_mended(target: str, data: bytes) -> None:
    parse(target, data)
