"""A real training in the cluster, through Dagster: two pods against the same ranks here."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import yaml

from dolly_assets.core.environment import Environment
from dolly_assets.core.names import epoch_key
from dolly_assets.pipeline.session import Session
from dolly_assets.storage.artifact import Artifact
from dolly_assets_tests.home import TINY_FAMILY, Home
from dolly_assets_tests.kubernetes.cluster import NAMESPACE, Cluster


def checkpoints(session: Session) -> list[Artifact]:
    found = [
        session.store.latest(f"tiny/model_checkpoint/animals/{epoch_key(epoch)}")
        for epoch in (1, 2)
    ]
    return [artifact for artifact in found if artifact]


def test_two_pods_give_the_weights_of_two_local_ranks(
    cluster: Cluster, trained_copy: Home, tmp_path: Path
) -> None:
    settings = tmp_path / "kubernetes.yaml"
    settings.write_text(yaml.safe_dump({"namespace": NAMESPACE, "image": "a-worker"}))
    family = TINY_FAMILY.replace(
        "compute: {cpu_ranks: 2}", "compute: {nodes: 2, cpu_ranks: 1, cpus: 1}"
    )
    (trained_copy.path / "defs" / "tiny" / "defs.yaml").write_text(family)
    variables = {**trained_copy.variables, "DOLLY_KUBERNETES": str(settings)}
    session = Session(Environment.read(variables))
    local = checkpoints(session)
    keys = [["tiny", asset] for asset in ("model_checkpoint", "gpu_profile")]
    config = {"tiny__fine_tune": {"config": {"retrain": True}}}
    session.materialize(keys, "animals|01", "animals|02", config)
    in_pods = checkpoints(session)
    assert {artifact.digest for artifact in local}.isdisjoint(
        artifact.digest for artifact in in_pods
    )
    weights = [
        [item.manifest.attributes["weights_sha256"] for item in each] for each in (local, in_pods)
    ]
    assert weights[0] == weights[1]
    assert cluster.gpus_booked() == 0
    key = dg.AssetKey(["tiny", "model_checkpoint"])
    observed = session.instance.fetch_observations(dg.AssetRecordsFilter(key), limit=1).records
    observation = observed[0].event_log_entry.asset_observation
    assert observation
    assert observation.metadata["restarts"].value == 0
    assert run_pod_alone(cluster, tmp_path) == 0, (
        "all is trained: a pod that begins again has nobody to wait for"
    )


def run_pod_alone(cluster: Cluster, folder: Path) -> int:
    """Runs the first pod of the last Job once more, without the others; its exit code."""
    container = cluster.jobs()[-1]["spec"]["template"]["spec"]["containers"][0]
    given = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    of_its_own = {
        "DOLLY_POD": "again",
        "DOLLY_SCRATCH": str(folder / "pod"),
        "DOLLY_MEET": "127.0.0.1:0",
        "DOLLY_MEET_SECONDS": "5",
        "JOB_COMPLETION_INDEX": "0",
    }
    command = [sys.executable, "-m", "dolly_assets.worker.pod"]
    return subprocess.run(
        command, env={**os.environ, **given, **of_its_own}, check=False, timeout=120
    ).returncode
