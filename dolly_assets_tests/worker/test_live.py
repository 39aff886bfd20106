"""The report of a training that runs, and what is left of it after SIGKILL.

Trainings, kills and the store are real.
"""

import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolly_assets.core.errors import WorkerError
from dolly_assets.launchers.local import LocalLauncher
from dolly_assets.profiling.analysis.summary import ReportSummary
from dolly_assets.profiling.record.sampler import SAMPLES_FILE
from dolly_assets.profiling.series.steplog import read_steps
from dolly_assets.storage.artifact import artifact_name
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.messages import Live, Message
from dolly_assets.worker.profiles.interrupted import recover_profiles, recover_profiles_from_store
from dolly_assets.worker.profiles.live import left_behind
from dolly_assets.worker.profiles.profile_publisher import profile_dir, spec_in
from dolly_assets.worker.spec import Tokenize, WorkerSpec, ref
from dolly_assets.worker.tasks.tokenize import tokenize
from dolly_assets_tests.profiling.journals import read_samples
from dolly_assets_tests.tiny_training import DATASET, RAW, Recorded, Workbench
from dolly_assets_tests.waiting import wait_until

pytestmark = pytest.mark.slow

MANY = 400  # copies of the examples: an epoch that nobody waits for


@pytest.fixture(scope="module")
def killed(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A training whose whole process tree was killed once its live report was in the store."""
    folder = tmp_path_factory.mktemp("killed")
    own = Workbench(Path(shutil.copytree(workbench.folder, folder / "workbench")), workbench.family)
    _lengthen(own, folder)
    spec = own.spec(own.train(1, 1), folder / "scratch").model_copy(
        update={"made_by": {"run_id": "killed"}}
    )
    messages: list[Message] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            LocalLauncher().run(spec, messages.append)
        except WorkerError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(
        lambda: bool(errors or left_behind(ObjectStore(spec.store_url), "tiny", DATASET)),
        seconds=200,
    )
    state = left_behind(ObjectStore(spec.store_url), "tiny", DATASET)[0]
    wait_until(lambda: any(isinstance(message, Live) for message in messages))
    [worker] = [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and str(folder) in " ".join(child.cmdline())
    ]
    killed_at = time.time()
    os.killpg(worker.pid, signal.SIGKILL)
    thread.join()
    copy = Workbench(Path(shutil.copytree(own.folder, folder / "machine gone")), workbench.family)
    return {
        "workbench": own,
        "copy": copy,
        "spec": spec,
        "killed_at": killed_at,
        "state": state,
        "messages": messages,
    }


def _lengthen(workbench: Workbench, folder: Path) -> None:
    raw_folder = folder / "raw"
    raw_folder.mkdir()
    pq.write_table(pa.concat_tables([RAW] * MANY), raw_folder / "data.parquet")
    name = artifact_name(["raw_dataset"], DATASET)
    raw = workbench.store.publish(
        name,
        raw_folder,
        kind="raw_dataset",
        attributes={"answers": "exact", "rows": MANY * RAW.num_rows},
    )
    task = Tokenize(
        dataset=DATASET, raw_dataset=ref(raw), base_model=ref(workbench.latest("base_model"))
    )
    tokenize(workbench.spec(task, folder / "tokenize"), workbench.store, Recorded().messenger)


def test_a_live_report_is_in_the_store_soon_after_the_first_step(killed: dict[str, Any]) -> None:
    spec: WorkerSpec = killed["spec"]
    first_step = read_steps(profile_dir(spec))["started_at"].to_pylist()[0]
    assert first_step < killed["state"].refreshed_at < killed["killed_at"]
    [live] = [message for message in killed["messages"] if isinstance(message, Live)]
    assert live.key == f"live/tiny/{DATASET}/killed/report.html"
    page = ObjectStore(spec.store_url).read_all(live.key).decode()
    assert 'http-equiv="refresh"' in page
    assert "Running: " in page


def test_after_sigkill_the_report_covers_all_but_the_last_moment_and_says_that_it_was_interrupted(
    killed: dict[str, Any],
) -> None:
    spec: WorkerSpec = killed["spec"]
    workbench: Workbench = killed["workbench"]
    left = spec_in(spec.scratch_dir)
    assert left
    assert left == spec
    [artifact] = recover_profiles(left, workbench.store, print)
    assert recover_profiles(left, workbench.store, print) == [], "once is enough"
    summary = ReportSummary.model_validate_json(artifact.read_bytes("summary.json"))
    seen = read_samples(profile_dir(spec) / SAMPLES_FILE, 0, killed["killed_at"])
    assert summary.ended_at >= seen.time_seconds[-1], (
        "nothing that was sampled before the kill is missing"
    )
    assert summary.samples_count >= len(seen)
    assert summary.steps
    assert summary.verdict.startswith("Interrupted: the training ended at ")
    assert f"after step {summary.steps.last_step}" in summary.verdict
    assert "Interrupted: the training ended" in artifact.read_bytes("report.html").decode()
    assert artifact.name == f"tiny/interrupted_profile/{DATASET}/01"
    whole = workbench.store.latest(
        f"tiny/gpu_profile/{DATASET}/01"
    )  # the shared workbench may hold another training's
    assert whole is None or whole.manifest.made_by != spec.made_by
    assert left_behind(ObjectStore(spec.store_url), "tiny", DATASET) == []


def test_where_the_machine_is_gone_the_live_report_becomes_the_report(
    killed: dict[str, Any],
) -> None:
    workbench: Workbench = killed["copy"]
    objects = ObjectStore(str(workbench.folder / "store"))
    assert (
        recover_profiles_from_store(workbench.store, objects, "tiny", DATASET, lambda state: False)
        == []
    )
    [artifact] = recover_profiles_from_store(
        workbench.store, objects, "tiny", DATASET, lambda state: state.run_id == "killed"
    )
    assert artifact.manifest.attributes["training"] == killed["spec"].task.training
    page = artifact.read_bytes("report.html").decode()
    assert "Interrupted: the training ended after " in page
    assert 'http-equiv="refresh"' not in page
    assert (
        "Interrupted: "
        in ReportSummary.model_validate_json(artifact.read_bytes("summary.json")).verdict
    )
    assert left_behind(objects, "tiny", DATASET) == []
