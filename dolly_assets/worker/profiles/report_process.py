"""A low-priority process beside rank 0 that builds and publishes profiles and the live report.

    python -m dolly_assets.worker.profiles.report_process SPEC

It reads requests as JSON lines and answers each with one line; log lines come in between. It ends
with its input, or with its parent. Building a report takes seconds of CPU that the training's own
process has no time for.
"""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from dolly_assets.profiling.record.journal import read_journal
from dolly_assets.profiling.report import REPORT_FILE
from dolly_assets.profiling.report.report import get_ready
from dolly_assets.profiling.series.spans import read_spans
from dolly_assets.profiling.series.steplog import step_files
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.profiles.live import LiveReport
from dolly_assets.worker.profiles.profile_publisher import (
    ProfilePublisher,
    ProfileRequest,
    profile_dir,
)
from dolly_assets.worker.spec import SPEC_FILE, Train, WorkerSpec

NICENESS = 10
LOOK_SECONDS = 1.0
FIRST_LIVE_SECONDS = 5.0  # after the first step: a training that is over by then needs none
REFRESH_SECONDS = 15.0
REFRESH_SHARE = 0.05  # of one core that refreshing may take
LOG_FILE = "report_process.log"


class ReportProcess:
    """The parent's end; if the process has died, profiles are built here."""

    def __init__(self, spec: WorkerSpec[Train], store: ArtifactStore, messenger: Messenger) -> None:
        self._spec, self._store, self._messenger = spec, store, messenger
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> int:
        """Start the process; return its id."""
        folder = profile_dir(self._spec)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SPEC_FILE).write_text(self._spec.model_dump_json(), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "dolly_assets.worker.profiles.report_process",
            str(folder / SPEC_FILE),
        ]
        with (folder / LOG_FILE).open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        return self._process.pid

    def publish(self, request: ProfileRequest) -> Artifact:
        """Build and publish a profile; return when it is in the store."""
        answer = self._ask(request) if self._process else {}
        if "digest" in answer:
            return self._store.get(answer["name"], answer["digest"])
        self._messenger.log(
            f"the report process failed ({answer.get('failed', 'it has exited')}): building the "
            "profile in the training process"
        )
        return ProfilePublisher(self._spec, self._store, self._messenger.log).publish(request)

    def stop(self) -> None:
        """Stop the process, whatever it is doing."""
        if self._process:
            self._process.kill()  # SIGTERM may be ignored, which a process inherits
            self._process.wait()

    def _ask(self, request: ProfileRequest) -> dict[str, Any]:
        assert self._process
        assert self._process.stdin
        try:
            self._process.stdin.write(request.model_dump_json() + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return {}
        return self._answers.get()

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        for line in process.stdout:
            message = json.loads(line)
            if "log" in message:
                self._messenger.log(message["log"])
            elif "live" in message:
                self._messenger.emit_live(message["live"])
            else:
                self._answers.put(message)
        self._answers.put({})  # wakes whoever waits for an answer


class _Loop:
    """What the process does."""

    def __init__(self, spec: WorkerSpec[Train], out: TextIO) -> None:
        self._folder, self._scratch, self._out = profile_dir(spec), spec.scratch_dir, out
        self._cache_dir = spec.cache_dir
        self._profiles = ProfilePublisher(
            spec,
            spec.open_store(),
            lambda text: self._send({"log": text}),
        )
        self._live = LiveReport(spec)
        self._live_at: float | None = None  # monotonic seconds; None before the first step
        self._sent_live = False
        self._parent = os.getppid()

    def run(self, requests: "queue.SimpleQueue[str | None]") -> None:
        """Serve requests until the input ends or the parent is gone."""
        while os.getppid() == self._parent:
            try:
                line = requests.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                self._look_after_live()
                continue
            if line is None:
                return
            self._answer(ProfileRequest.model_validate_json(line))

    def _answer(self, request: ProfileRequest) -> None:
        try:
            artifact = self._profiles.publish(request)
        except Exception as error:  # noqa: BLE001 the parent builds it, and logs why
            self._send({"failed": f"{type(error).__name__}: {error}"})
        else:
            self._send({"name": artifact.name, "digest": artifact.digest})

    def _look_after_live(self) -> None:
        if self._live_at is None:
            if any(next(read_journal(file), None) for file in step_files(self._folder)):
                self._live_at = time.monotonic() + FIRST_LIVE_SECONDS
                get_ready(self._cache_dir)
        elif time.monotonic() >= self._live_at:
            began = time.process_time()
            try:
                self._refresh()
            except Exception as error:  # noqa: BLE001 a store that fails now may not later
                print(f"the live report was not refreshed: {error}", file=sys.stderr, flush=True)  # noqa: T201
            took = time.process_time() - began
            self._live_at = time.monotonic() + max(REFRESH_SECONDS, took / REFRESH_SHARE)

    def _refresh(self) -> None:
        running = [span for span in read_spans(self._folder) if span.ended_at is None]
        if not running:
            return
        request = ProfileRequest(
            epoch=running[-1].epoch, started_at=running[-1].started_at, ended_at=time.time()
        )
        out = self._scratch / "live"
        summary = self._profiles.build(request, out, refresh_seconds=int(REFRESH_SECONDS))
        key = self._live.write((out / REPORT_FILE).read_bytes(), summary, request)
        shutil.rmtree(out)
        if not self._sent_live:
            self._sent_live = True
            self._send({"live": key})

    def _send(self, what: dict[str, Any]) -> None:
        print(json.dumps(what), file=self._out, flush=True)


def _read_lines(requests: "queue.SimpleQueue[str | None]") -> None:
    for line in sys.stdin:
        requests.put(line)
    requests.put(None)


def main() -> None:
    """Run the process."""
    os.nice(NICENESS)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    spec = WorkerSpec[Train].model_validate_json(Path(sys.argv[1]).read_bytes())
    requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=(requests,), daemon=True).start()
    _Loop(spec, answers).run(requests)


if __name__ == "__main__":
    main()
