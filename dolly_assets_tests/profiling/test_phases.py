"""Phases through their file."""

from pathlib import Path

import pytest

from dolly_assets.profiling.series.phases import PhaseLog, read_phases


def test_spans_and_marks_are_read_in_the_order_they_began(tmp_path: Path) -> None:
    log = PhaseLog(tmp_path / "phases.jsonl")
    with log.span("evaluate", epoch=2):
        pass
    log.mark("load", 10.0, 12.5, rank=1)
    load, evaluate = read_phases(tmp_path / "phases.jsonl")
    assert (load.name, load.started_at, load.ended_at, load.facts) == (
        "load",
        10.0,
        12.5,
        {"rank": 1},
    )
    assert evaluate.facts == {"epoch": 2}
    assert evaluate.ended_at is not None
    assert evaluate.ended_at >= evaluate.started_at


def test_a_span_that_fails_is_closed(tmp_path: Path) -> None:
    log = PhaseLog(tmp_path / "phases.jsonl")
    with pytest.raises(RuntimeError), log.span("train"):
        raise RuntimeError
    assert read_phases(tmp_path / "phases.jsonl")[0].ended_at is not None


def test_after_a_crash_the_open_span_and_all_whole_lines_are_there(tmp_path: Path) -> None:
    """The crash is the file as it stands inside a span, its last line then cut."""
    path = tmp_path / "phases.jsonl"
    log = PhaseLog(path)
    log.mark("load", 1.0, 2.0)
    with log.span("train"):
        at_the_crash = path.read_bytes()
    log.mark("save", 5.0, 6.0)
    torn = path.read_bytes()[:-9]

    path.write_bytes(at_the_crash)
    assert [(phase.name, phase.ended_at is None) for phase in read_phases(path)] == [
        ("load", False),
        ("train", True),
    ]
    path.write_bytes(torn)
    assert {phase.name for phase in read_phases(path)} == {"load", "train"}
    PhaseLog(path).mark("resumed", 7.0, 8.0)
    assert "resumed" in {phase.name for phase in read_phases(path)}


def test_no_file_means_no_phases(tmp_path: Path) -> None:
    assert read_phases(tmp_path / "phases.jsonl") == []
