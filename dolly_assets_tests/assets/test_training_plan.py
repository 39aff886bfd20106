"""The asset training_plan, its check, and `dolly plan`; what cannot fit never starts a worker."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dolly_assets.assets.training_plan import build_training_plan
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.family import ModelFamily
from dolly_assets.registry.estimate import Estimator
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.storage.io_manager import ArtifactIOManager
from dolly_assets_tests.home import Home
from dolly_assets_tests.in_process import dolly, refusal
from dolly_assets_tests.tiny_training import DATASET, Workbench, tiny_family

# A bucket of 20 GB, which no T4 holds, however small the model.
TOO_BIG = {"zero_optimization": {"reduce_bucket_size": 5_000_000_000}}
PLAN = ("plan", "--model", "tiny", "--dataset", "animals")


def on_gpus(device: str | None, **recipe: Any) -> ModelFamily:
    family = tiny_family(held_out_examples=3, **recipe)
    return family.model_copy(
        update={"compute": family.compute.model_copy(update={"gpus": 2, "device": device})}
    )


def materialized(workbench: Workbench, family: ModelFamily) -> dg.ExecuteInProcessResult:
    url, cache_dir = str(workbench.folder / "store"), str(workbench.folder / "cache")
    upstream = [
        dg.AssetSpec([family.name, "base_model"]),
        dg.AssetSpec([family.name, "tokenized_dataset"], partitions_def=DATASETS),
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(DATASETS.name), [DATASET])
        return dg.materialize(
            [build_training_plan(family), *upstream],
            instance=instance,
            partition_key=DATASET,
            selection=[dg.AssetKey([family.name, "training_plan"])],
            resources={
                "store": StoreResource(url=url, cache_dir=cache_dir),
                "planning": Estimator(),
                "io_manager": ArtifactIOManager(url=url, cache_dir=cache_dir),
            },
            raise_on_error=False,
        )


@pytest.mark.parametrize(
    ("family", "passed", "severity", "says"),
    [
        (on_gpus("T4"), True, dg.AssetCheckSeverity.ERROR, "it fits: 2 × T4: "),
        (
            on_gpus("T4", deepspeed=TOO_BIG),
            False,
            dg.AssetCheckSeverity.ERROR,
            "does not fit on 2 × T4",
        ),
        (on_gpus(None), False, dg.AssetCheckSeverity.WARN, "fit unknown"),
    ],
    ids=["fits", "too big", "unknown"],
)
@pytest.mark.slow
def test_the_check_is_green_only_for_what_was_found_to_fit(
    workbench: Workbench,
    family: ModelFamily,
    passed: bool,
    severity: dg.AssetCheckSeverity,
    says: str,
) -> None:
    """The plan is published in any case; only what is known not to fit ends the run."""
    result = materialized(workbench, family)
    [evaluation] = result.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.severity, evaluation.blocking) == (passed, severity, True)
    assert says in (evaluation.description or "")
    assert result.success == (passed or severity == dg.AssetCheckSeverity.WARN)
    [event] = result.asset_materializations_for_node("tiny__training_plan")
    assert {"verdict", "table"} <= set(event.metadata)
    published = workbench.latest("training_plan", DATASET)
    assert json.loads(published.read_bytes("plan.json"))["device_memory"]


def test_a_plan_follows_what_was_measured_and_is_current_until_something_changes(
    trained: Home,
) -> None:
    store = ArtifactStore(str(trained.path / "store"), trained.path / "cache")
    assert len(store.history("tiny/training_plan/animals")) == 1
    result = dolly(trained.variables, *PLAN, "--json")
    assert result.exit_code == 0
    made = json.loads(result.stdout)
    epoch = store.latest("tiny/model_checkpoint/animals/02")
    assert epoch
    assert made["calibrated_by"] == epoch.name
    assert made["fits"] is True
    assert made["seconds_per_epoch"] == pytest.approx(epoch.manifest.attributes["training_seconds"])
    assert made["steps_per_epoch"] == epoch.manifest.attributes["steps"]
    published = sum(
        entry.size_bytes
        for entry in epoch.manifest.files
        if entry.path.startswith(("weights/", "state/"))
    )
    assert made["store_bytes"] / made["epochs"] == pytest.approx(published, rel=2)


def test_plan_can_ask_for_other_machines(trained: Home) -> None:
    result = dolly(trained.variables, *PLAN, "--gpus", "2", "--device", "H100", "--epochs", "1-2")
    assert result.exit_code == 0
    assert "it fits: 2 × H100 80GB HBM3: " in result.stdout
    assert "2 epochs" in result.stdout
    assert "compute.device 'H1000' is unknown" in refusal(
        trained.variables, *PLAN, "--gpus", "2", "--device", "H1000"
    )


def test_training_what_cannot_fit_is_refused_before_a_worker_starts(trained_copy: Home) -> None:
    yaml = trained_copy.path / "defs/tiny/defs.yaml"
    text = yaml.read_text().replace("compute: {cpu_ranks: 2}", "compute: {gpus: 2, device: T4}")
    yaml.write_text(
        text.replace("  seed: 7\n", f"  seed: 7\n    deepspeed: {json.dumps(TOO_BIG)}\n")
    )
    before = list(trained_copy.path.rglob("worker.log"))
    result = dolly(
        trained_copy.variables, "train", "--model", "tiny", "--dataset", "animals", "--epochs", "1"
    )
    assert result.exit_code == 2
    assert "the training does not fit on 2 × T4" in result.stderr
    assert list(Path(trained_copy.path).rglob("worker.log")) == before
    store = ArtifactStore(str(trained_copy.path / "store"), trained_copy.path / "cache")
    plan = store.latest("tiny/training_plan/animals")
    assert plan
    assert "does not fit" in str(plan.manifest.attributes["verdict"])
    assert dolly(trained_copy.variables, *PLAN).exit_code == 1
