"""The same examples have one digest, and so a training one name, whatever lies beside them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dolly_assets.registry.attributes import TokenizedDatasetAttributes
from dolly_assets.registry.currency import is_current
from dolly_assets.registry.inputs import as_inputs
from dolly_assets.registry.kinds import GPU_PROFILE, MODEL_CHECKPOINT, TOKENIZED_DATASET
from dolly_assets.registry.tokenized_datasets import publish_tokenized
from dolly_assets.registry.training import Training, plan_resume
from dolly_assets.storage import Artifact, ArtifactStore
from dolly_assets.tokenization.statistics import describe
from dolly_assets.tokenization.tokenized_dataset import (
    HELD_OUT_FILE,
    HELD_OUT_SCHEMA,
    TRAIN_FILE,
    TRAIN_SCHEMA,
    TokenizedDataset,
)
from dolly_assets_tests.fixtures.stores import Publish
from dolly_assets_tests.storage.files import blob_of, flip_a_bit
from dolly_assets_tests.tiny_training import DATASET, tiny_family

ADDRESS = TOKENIZED_DATASET.address("tiny", DATASET)


def tokenized(*tokens: int) -> TokenizedDataset:
    """One example to train on, and one that is held out."""
    example = {"record": 0, "row": 0, "input_ids": list(tokens), "prompt_length": 1}
    texts = {"instruction": "a", "context": "", "response": "b", "category": ""}
    return TokenizedDataset(
        train=pa.Table.from_pylist([example], TRAIN_SCHEMA),
        held_out=pa.Table.from_pylist([{**example, "record": 1, **texts}], HELD_OUT_SCHEMA),
        statistics=describe(
            train_lengths=np.array([len(tokens)]),
            train_labels=np.array([len(tokens) - 1]),
            rows=1,
            max_length=8,
            held_out_examples=1,
            dropped_too_long=0,
        ),
        preview="a preview",
    )


EXAMPLES = tokenized(1, 2, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tokenized"


def write(folder: Path, dataset: TokenizedDataset, picture: str) -> None:
    dataset.write(folder)
    (folder / "picture.png").write_text(picture)


def attributes(dataset: TokenizedDataset) -> dict:
    return TokenizedDatasetAttributes.model_validate(dataset.statistics).as_json()


def published(
    store: ArtifactStore, folder: Path, dataset: TokenizedDataset, picture: str
) -> Artifact:
    write(folder, dataset, picture)
    return publish_tokenized(
        store, ADDRESS, folder, dataset, kind=ADDRESS.asset, attributes=attributes(dataset)
    )


def published_by_an_earlier_version(
    store: ArtifactStore, folder: Path, dataset: TokenizedDataset, picture: str
) -> Artifact:
    """Which counted the picture into the digest."""
    write(folder, dataset, picture)
    return store.publish(ADDRESS.name, folder, kind=ADDRESS.asset, attributes=attributes(dataset))


def training_on(publish: Publish, artifact: Artifact) -> Training:
    return Training(tiny_family(), DATASET, publish(["tiny", "base_model"]), artifact)


def train(publish: Publish, training: Training, *epochs: int) -> None:
    for epoch in epochs:
        for kind in (GPU_PROFILE, MODEL_CHECKPOINT):
            publish(
                kind.key("tiny"),
                DATASET,
                f"{epoch:02d}",
                text=training.digest,
                inputs=as_inputs(training.base_model, training.tokenized_dataset),
                attributes={"training": training.digest, "epoch": epoch},
            )


def test_another_picture_preview_or_statistic_is_the_same_training(
    store: ArtifactStore, publish: Publish, folder: Path
) -> None:
    first = published(store, folder, EXAMPLES, "red")
    training = training_on(publish, first)
    train(publish, training, 1, 2, 3)
    described_anew = replace(
        EXAMPLES, preview="another", statistics={**EXAMPLES.statistics, "added_later": 1}
    )
    second = published(store, folder, described_anew, "blue")
    assert second.digest == first.digest
    assert second.manifest.tree_digest != first.manifest.tree_digest
    assert store.get(ADDRESS.name, first.digest).read_bytes("picture.png") == b"blue"
    now = Training.newest(store, training.family, DATASET)
    assert now.digest == training.digest
    assert plan_resume(store, now, [1, 2, 3], retrain=False).epochs == ()
    assert plan_resume(store, now, [4], retrain=False).epochs == (4,)
    checkpoint = store.latest(MODEL_CHECKPOINT.address("tiny", DATASET, 3).name)
    assert checkpoint
    assert is_current(store, training.family, checkpoint)


def test_other_examples_are_another_training(
    store: ArtifactStore, publish: Publish, folder: Path
) -> None:
    first = training_on(publish, published(store, folder, EXAMPLES, "red"))
    for other in (tokenized(1, 2, 4), tokenized(1, 2, 3, 4)):
        made = published(store, folder, other, "red")
        assert training_on(publish, made).digest != first.digest


def test_a_training_of_an_earlier_version_keeps_its_name(
    store: ArtifactStore, publish: Publish, folder: Path
) -> None:
    """Also after other examples were there in between."""
    old = published_by_an_earlier_version(store, folder, EXAMPLES, "red")
    training = training_on(publish, old)
    train(publish, training, 1, 2, 3)
    assert published(store, folder, EXAMPLES, "blue").digest == old.digest
    published(store, folder, tokenized(7, 8, 9), "green")
    again = published(store, folder, EXAMPLES, "blue")
    assert again.digest == old.digest
    assert again.read_bytes("picture.png") == b"red"  # the one that its name covers
    now = Training.newest(store, training.family, DATASET)
    assert plan_resume(store, now, [1, 2, 3], retrain=False).epochs == ()
    resumed = plan_resume(store, now, [4], retrain=False)
    assert resumed.epochs == (4,)
    assert resumed.resume_from
    assert resumed.resume_from.name.endswith("/03")


def test_the_same_examples_in_other_bytes_keep_their_digest_and_get_the_new_picture(
    store: ArtifactStore, folder: Path
) -> None:
    """As another version of pyarrow may write them."""
    write(folder, EXAMPLES, "red")
    with pa.ipc.new_file(
        folder / TRAIN_FILE, TRAIN_SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as writer:
        writer.write_table(EXAMPLES.train)
    first = store.publish(
        ADDRESS.name,
        folder,
        kind=ADDRESS.asset,
        descriptions=TOKENIZED_DATASET.descriptions,
        attributes=attributes(EXAMPLES),
    )
    again = published(store, folder, EXAMPLES, "blue")
    assert again.digest == first.digest
    assert again.read_bytes("picture.png") == b"blue"
    assert again.read_table(TRAIN_FILE).equals(EXAMPLES.train)


@pytest.mark.parametrize("path", [TRAIN_FILE, HELD_OUT_FILE, "picture.png"])
def test_what_is_damaged_or_lost_in_the_store_does_not_hinder_tokenizing(
    store: ArtifactStore, folder: Path, tmp_path: Path, path: str
) -> None:
    old = published_by_an_earlier_version(store, folder, EXAMPLES, "red")
    [entry] = [entry for entry in old.manifest.files if entry.path == path]
    blob = blob_of(tmp_path / "store", entry.sha256)
    if path == TRAIN_FILE:
        flip_a_bit(blob)
        made = published(store, folder, tokenized(1, 2, 4), "blue")  # as many tokens
        assert made.read_table(TRAIN_FILE).num_rows == 1
        blob.unlink()
    else:
        blob.unlink()
    made = published(store, folder, EXAMPLES, "blue")
    assert made.read_table(TRAIN_FILE).equals(EXAMPLES.train)
    assert made.read_bytes("picture.png") == b"blue"
