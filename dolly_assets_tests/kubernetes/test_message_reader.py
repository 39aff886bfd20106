"""What a Job's worker reports, as its launcher passes it on."""

import json
import time
from pathlib import Path

from dolly_assets.launchers.kubernetes.job import messages_of
from dolly_assets.launchers.kubernetes.message_reader import MessageReader
from dolly_assets.storage.object_store import ObjectStore
from dolly_assets.worker.messages import Message, Published
from dolly_assets.worker.spec import ArtifactRef, Evaluate, WorkerSpec
from dolly_assets_tests.tiny_training import DATASET, tiny_family


def test_epochs_with_the_same_scores_are_all_reported_and_each_once(tmp_path: Path) -> None:
    """Equal content has an equal digest, so a digest alone does not say which epoch was scored."""
    spec = WorkerSpec(
        family=tiny_family(),
        task=Evaluate(dataset=DATASET, checkpoints={1: ArtifactRef(name="a", digest="b")}),
        store_url=str(tmp_path / "store"),
        cache_dir=tmp_path / "cache",
        scratch_dir=tmp_path / "scratch",
        made_by={},
    )
    store, heard = ObjectStore(spec.store_url), list[Message]()
    reader = MessageReader(spec, "job", heard.append)
    scores = [Published(name=f"tiny/evaluation/{DATASET}/0{epoch}", digest="a") for epoch in (1, 2)]
    for published in [*scores, scores[0]]:
        message = {
            "__dagster_pipes_version": "0.1",
            "method": "report_custom_message",
            "params": {"payload": published.model_dump(mode="json")},
        }
        key = f"{messages_of('job')}/{time.time_ns():020d}-pod-0.json"
        store.write(key, json.dumps(message).encode())
    reader.pass_on()
    assert heard == scores
