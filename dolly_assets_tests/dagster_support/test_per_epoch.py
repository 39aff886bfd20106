"""An epoch that another run scored meanwhile is not scored again."""

from pathlib import Path
from typing import Any

import dagster as dg

from dolly_assets.assets.evaluation import build_evaluation
from dolly_assets.core.names import epoch_key
from dolly_assets.dagster_support.partitions import DATASETS, partition_key
from dolly_assets.dagster_support.resources import StoreResource, WorkerResource
from dolly_assets.registry.kinds import EVALUATION
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.storage.io_manager import ArtifactIOManager
from dolly_assets_tests.fixtures.stores import Publish
from dolly_assets_tests.tiny_training import DATASET, tiny_family

FAMILY = tiny_family()
OF = (DATASET, epoch_key(1))


def test_scores_of_the_same_checkpoint_that_came_while_the_run_waited_are_used(
    store: ArtifactStore, publish: Publish, tmp_path: Path
) -> None:
    checkpoint = publish([FAMILY.name, "model_checkpoint"], *OF, attributes={"epoch": 1})

    class ScoredMeanwhile(StoreResource):
        """The store, in which another run publishes before this one looks."""

        def open(self) -> ArtifactStore:
            publish(
                [FAMILY.name, "evaluation"],
                *OF,
                inputs={checkpoint.name: checkpoint.digest},
                attributes={"settings": EVALUATION.code_version(FAMILY), "held_out_loss": 1.0},
            )
            return super().open()

    settings: dict[str, Any] = {"url": store.url, "cache_dir": str(tmp_path / "cache")}
    opened = ScoredMeanwhile(**settings)
    resources = {
        "store": opened,
        "io_manager": ArtifactIOManager(**settings),
        "worker": WorkerResource(store=opened, scratch_dir=str(tmp_path / "no worker")),
    }
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(DATASETS.name), [DATASET])
        result = dg.materialize(
            [build_evaluation(FAMILY)],
            instance=instance,
            partition_key=partition_key(DATASET, 1),
            resources=resources,
        )
        [logged] = result.asset_materializations_for_node(f"{FAMILY.name}__evaluation")
    scored = store.latest(f"{FAMILY.name}/evaluation/{DATASET}/{epoch_key(1)}")
    assert scored
    assert (logged.tags or {})["dagster/data_version"] == scored.digest
    assert not (tmp_path / "no worker").exists()
