"""A training is estimated once per command: what the store knows of it is read once."""

from pathlib import Path

import pytest

from dolly_assets.components.code_location import resources
from dolly_assets.core.environment import Environment
from dolly_assets.registry import estimate
from dolly_assets.registry.estimate import Estimator, plan_request
from dolly_assets.registry.training import Training
from dolly_assets_tests.tiny_training import DATASET, Workbench, tiny_family


def test_the_store_is_read_once_until_something_is_trained(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(*arguments: object, **options: object) -> object:
        read.append(str(arguments[1]))
        return plan_request(*arguments, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(estimate, "plan_request", counted)
    estimator = Estimator()
    training = Training.newest(workbench.store, workbench.family, DATASET)
    plans = [
        estimator.estimate(
            workbench.store,
            Training.newest(workbench.store, workbench.family, DATASET),  # read again by each run
            epochs=epochs,
        ).plan
        for epochs in (1, 4)
    ]
    assert [plan.epochs for plan in plans] == [1, 4]
    assert len(read) == 1
    other = Training(
        tiny_family(held_out_examples=3, learning_rate=0.5),
        DATASET,
        training.base_model,
        training.tokenized_dataset,
    )
    estimator.estimate(workbench.store, other, epochs=1)
    assert len(read) == 2
    estimator.forget()
    estimator.estimate(workbench.store, other, epochs=1)
    assert len(read) == 3


def test_a_session_shares_its_estimator_with_its_runs(tmp_path: Path) -> None:
    environment, estimator = Environment.read({"DOLLY_HOME": str(tmp_path)}), Estimator()
    assert resources(environment, estimator)["planning"] is estimator


def test_a_family_of_cpus_is_planned_for_what_it_requests_of_a_cluster(
    workbench: Workbench, tmp_path: Path
) -> None:
    """What the orchestrator's pod may use says nothing about the pods that train."""
    training = Training.newest(workbench.store, workbench.family, DATASET)
    file = str(tmp_path / "kubernetes.yaml")
    environment = Environment.read({"DOLLY_HOME": str(tmp_path), "DOLLY_KUBERNETES": file})
    planning = resources(environment)["planning"]
    assert isinstance(planning, Estimator)
    plan = planning.estimate(workbench.store, training, epochs=1).plan
    compute = workbench.family.compute
    assert plan.machines.host_bytes == compute.memory_gib * 2**30
    assert plan.machines.ranks == compute.cpu_ranks
