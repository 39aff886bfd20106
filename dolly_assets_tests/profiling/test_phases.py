"""Phases through their file."""

from pathlib import Path

from dolly_assets.profiling.series.phases import Phase, PhaseLog, read_phases, seconds_of


def test_phases_are_read_in_the_order_they_began(tmp_path: Path) -> None:
    log = PhaseLog(tmp_path / "phases.jsonl")
    log.mark("evaluate", 20.0, 21.0, epoch=2)
    log.mark("load", 10.0, 12.5, rank=1)
    phases = read_phases(tmp_path / "phases.jsonl")
    assert phases == [
        Phase("load", 10.0, 12.5, {"rank": 1}),
        Phase("evaluate", 20.0, 21.0, {"epoch": 2}),
    ]
    assert seconds_of(phases, "load") == 2.5


def test_after_a_crash_all_whole_lines_are_there(tmp_path: Path) -> None:
    """The crash is the file with its last line torn; whoever goes on writes after it."""
    path = tmp_path / "phases.jsonl"
    log = PhaseLog(path)
    log.mark("load", 1.0, 2.0)
    log.mark("save", 5.0, 6.0)
    path.write_bytes(path.read_bytes()[:-9])
    assert [phase.name for phase in read_phases(path)] == ["load"]
    PhaseLog(path).mark("resumed", 7.0, 8.0)
    assert [phase.name for phase in read_phases(path)] == ["load", "resumed"]


def test_no_file_means_no_phases(tmp_path: Path) -> None:
    assert read_phases(tmp_path / "phases.jsonl") == []
