"""The copy of a pod's log, without a cluster."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from dolly_assets.launchers.kubernetes.watch import LogStream
from dolly_assets.worker.messages import Messenger


def test_a_line_without_a_time_is_passed_over_and_the_log_goes_on_after_an_interruption(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet writes such a line when it cannot read the rest, and then ends the stream."""
    monkeypatch.setattr("dolly_assets.launchers.kubernetes.watch.LOG_RETRY_SECONDS", (0, 0))
    first, second = "2026-11-30T13:00:00.123456789Z", "2026-11-30T15:00:01.5+02:00"
    asked: list[dict[str, object]] = []

    def read(**options: object) -> Iterator[bytes]:
        asked.append(options)
        yield f"{first} one\n".encode()
        if len(asked) == 1:
            yield b"unable to retrieve container logs for containerd://1\n"
            yield b"\xff\n\n9999-99-99T00:00:00Z x\n"
            raise ConnectionError
        yield f"{second} two\n".encode()

    log = LogStream(read, lambda: bool(asked), "pod: ")
    log.finish(60)
    assert log.last == ["one", "two"]
    assert ["since_seconds" in options for options in asked[:2]] == [False, True]
    assert capfd.readouterr().err == "pod: one\npod: two\n"


def test_messages_are_lines_of_a_pods_log_and_the_run_shows_them_once(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    pipes: Any = SimpleNamespace(report_custom_message=sent.append)
    monkeypatch.setenv("DOLLY_POD", "pod-0")
    Messenger(pipes, 0).log("epoch 1 of 3:\nstep 2/13")
    Messenger(pipes, 0).emit_failed("no space left", by_user=True)
    said = capfd.readouterr().out.splitlines()
    assert said == ["[dolly] epoch 1 of 3: step 2/13", "[dolly] rank 0 failed: no space left"]
    assert len(sent) == 2

    def read(**_options: object) -> Iterator[bytes]:
        for line in (*said, "from a library"):
            yield f"2026-11-30T13:00:00Z {line}\n".encode()

    LogStream(read, lambda: True, "pod: ").finish(60)
    assert capfd.readouterr().err == "pod: from a library\n"


def test_a_worker_on_this_machine_repeats_no_message(capfd: pytest.CaptureFixture[str]) -> None:
    pipes: Any = SimpleNamespace(report_custom_message=lambda _: None)
    Messenger(pipes, 0).log("epoch 1 of 3")
    assert capfd.readouterr().out == ""
