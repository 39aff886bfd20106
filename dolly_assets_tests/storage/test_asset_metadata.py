"""What the Dagster UI shows of an artifact, and in which order."""

from pathlib import Path
from typing import Any

from dolly_assets.storage import ArtifactStore
from dolly_assets.storage.asset_metadata import artifact_metadata


def shown(store: ArtifactStore, tree: Path, **attributes: Any) -> dict[str, Any]:
    return artifact_metadata(store.publish("demo/plan", tree, kind="plan", attributes=attributes))


def test_sentences_come_before_figures_and_hashes_come_last(
    store: ArtifactStore, tree: Path
) -> None:
    metadata = shown(
        store,
        tree,
        training="a631d603e7b5" * 5,
        licenses={"demo": "Apache-2.0"},
        exact_match=0.95,
        decision_markdown="| model |",
        verdict="promoted",
        reason="epoch 3 is promoted: exact match +0.95",
        is_merged=True,
    )
    names = [name for name in metadata if name != "sent_bytes" and name != "sent"]
    assert names[:6] == ["verdict", "reason", "decision", "exact_match", "is_merged", "licenses"]
    assert names[6:] == ["training", "size", "size_bytes", "files", "dagster/uri", "digest"]


def test_numbers_with_units_are_also_shown_as_text(store: ArtifactStore, tree: Path) -> None:
    metadata = shown(
        store,
        tree,
        training_seconds=145.692,
        duration_seconds=90.0,
        peak_gpu_memory_bytes=3 * 10**9,
        cost_usd=12.5,
        steps=388,
    )
    assert metadata["training_seconds"] == 145.692
    assert metadata["training_time"] == "2 min 26 s"
    assert metadata["duration"] == "1 min 30 s"
    assert metadata["peak_gpu_memory"] == "3 GB"
    assert metadata["cost"] == "$12.50"
    assert metadata["steps"] == 388


def test_no_sentence_is_shown_twice(store: ArtifactStore, tree: Path) -> None:
    metadata = shown(
        store, tree, plan="2 CPU ranks: 1.9 GiB", verdict="it fits: 2 CPU ranks: 1.9 GiB"
    )
    assert metadata["verdict"] == "it fits: 2 CPU ranks: 1.9 GiB"
    assert "plan" not in metadata


def test_equal_sentences_are_both_kept(store: ArtifactStore, tree: Path) -> None:
    metadata = shown(store, tree, verdict="it fits", plan="it fits")
    assert {"verdict", "plan"} <= metadata.keys()


def test_what_is_empty_is_left_out(store: ArtifactStore, tree: Path) -> None:
    metadata = shown(store, tree, reason="", withdrawn=[], gain=None)
    assert not {"reason", "withdrawn", "gain"} & metadata.keys()
