"""The checks of `gpu_profile`: evaluated for each epoch of a range, with what to do."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from dolly_assets.assets.profile_checks import CHECKS, OF_ANY_DEVICE, build_profile_checks
from dolly_assets.core.environment import Environment
from dolly_assets.dagster_support.partitions import DATASETS, dataset_epochs
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.hardware.visible_gpus import Device
from dolly_assets.pipeline.runs import RANGE_END, RANGE_START
from dolly_assets.pipeline.session import Session
from dolly_assets.profiling.analysis.figures import ReportContext
from dolly_assets.profiling.analysis.finding import ProfileLimits
from dolly_assets.profiling.record.devices import DEVICES_FILE, Hardware
from dolly_assets.profiling.record.journal import Journal
from dolly_assets.profiling.record.sampler import SAMPLES_FILE
from dolly_assets.profiling.report.report import build_report
from dolly_assets.storage import ArtifactStore
from dolly_assets_tests.home import Home
from dolly_assets_tests.tiny_training import DATASET, tiny_family

START = 1_800_000_000.0


def publish(
    store: ArtifactStore, folder: Path, epoch: str, gpus: int, limits: ProfileLimits | None = None
) -> None:
    """Twenty seconds in which the last GPU rests one in four."""
    folder.mkdir()
    Hardware(tuple(Device(index, "GPU A") for index in range(gpus)), host="host").write(
        folder / DEVICES_FILE
    )
    journal = Journal(folder / SAMPLES_FILE)
    for second in range(20):
        used = {str(gpu): {"gpu_utilization_percent": 90 * bool(second % 4)} for gpu in range(gpus)}
        journal.append({"time_seconds": START + second, "gpu": used, "host": {"cpu_percent": 90}})
    known = ReportContext(limits=limits or ProfileLimits())
    build_report(
        folder,
        title=epoch,
        out=folder / "out",
        started_at=START,
        ended_at=START + 19,
        context=known,
    )
    store.publish(f"tiny/gpu_profile/{DATASET}/{epoch}", folder / "out", kind="gpu_profile")


@pytest.fixture
def evaluations(tmp_path: Path) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    """(partition, check) -> evaluation, of epochs 1-3: an idle GPU, one that may idle, and CPUs."""
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    publish(store, tmp_path / "1", "01", gpus=1)
    publish(store, tmp_path / "2", "02", gpus=1, limits=ProfileLimits(idle_percent=60))
    publish(store, tmp_path / "3", "03", gpus=0)
    family = tiny_family()
    spec = dg.AssetSpec([family.name, "gpu_profile"], partitions_def=dataset_epochs(family))
    definitions = dg.Definitions(
        assets=[spec],
        asset_checks=[build_profile_checks(family)],
        resources={
            "store": StoreResource(url=str(tmp_path / "store"), cache_dir=str(tmp_path / "cache"))
        },
        jobs=[dg.define_asset_job("checks", selection=dg.AssetSelection.all_asset_checks())],
    )
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(DATASETS.name), [DATASET])
        tags = {RANGE_START: f"{DATASET}|01", RANGE_END: f"{DATASET}|03"}
        result = definitions.resolve_job_def("checks").execute_in_process(
            instance=instance, tags=tags
        )
    assert result.success
    found = result.get_asset_check_evaluations()
    return {(evaluation.partition or "", evaluation.check_name): evaluation for evaluation in found}


def test_every_epoch_has_its_own_evaluations_and_what_was_not_checked_has_none(
    evaluations: dict[tuple[str, str], dg.AssetCheckEvaluation],
) -> None:
    of_epoch = {
        epoch: {check for partition, check in evaluations if partition == f"{DATASET}|{epoch}"}
        for epoch in ("01", "02", "03")
    }
    assert of_epoch == {"01": set(CHECKS), "02": set(CHECKS), "03": set(OF_ANY_DEVICE)}
    idle = evaluations[f"{DATASET}|01", "gpu_idle"]
    assert (idle.passed, idle.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "the GPU is idle 25 % of the time. The table of idle spans" in str(idle.description)
    others = [
        evaluation
        for key, evaluation in evaluations.items()
        if key != (f"{DATASET}|01", "gpu_idle")
    ]
    assert all(evaluation.passed for evaluation in others)


def test_a_training_has_the_profile_of_each_epoch_checked(
    trained: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")  # the platform sets it
    storage = Session(Environment.read(trained.variables)).instance.event_log_storage
    for check in OF_ANY_DEVICE:
        key = dg.AssetCheckKey(dg.AssetKey(["tiny", "gpu_profile"]), check)
        made = storage.get_asset_check_execution_history(key, limit=10)
        ended = {
            item.partition
            for item in made
            if item.status != AssetCheckExecutionRecordStatus.PLANNED
        }
        assert {"animals|01", "animals|02"} <= ended
