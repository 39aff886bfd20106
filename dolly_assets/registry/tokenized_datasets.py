"""Publishes tokenized datasets; the same examples keep the digest that the store has them under."""

from contextlib import suppress
from pathlib import Path
from typing import Unpack

from dolly_assets.core.errors import ArtifactError
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import TokenizedDatasetAttributes
from dolly_assets.registry.kinds import TOKENIZED_DATASET
from dolly_assets.registry.queries import history
from dolly_assets.storage.artifact import Artifact, ArtifactFields, ArtifactStore
from dolly_assets.tokenization.tokenized_dataset import HELD_OUT_FILE, TRAIN_FILE, TokenizedDataset


def publish_tokenized(
    store: ArtifactStore,
    address: ArtifactAddress,
    folder: Path,
    tokenized: TokenizedDataset,
    **fields: Unpack[ArtifactFields],
) -> Artifact:
    """Publish a folder with a tokenized dataset.

    Trainings are named by its digest. The same examples can have another one in the store: version
    0.1 counted the picture, and another pyarrow may write other bytes. The files that have it are
    then published again, so that the training keeps its name, with new descriptions where these are
    not among them.

    Args:
        store: Where to publish.
        address: What to publish.
        folder: What `tokenized` has written, and the picture.
        tokenized: The content of the folder.
        fields: What the manifest records.
    """
    descriptions = TOKENIZED_DATASET.descriptions
    earlier = _with_equal_tables(store, address, tokenized)
    if earlier is None:
        return store.publish(address.name, folder, descriptions=descriptions, **fields)
    files = {entry.path: entry for entry in store.upload(folder, descriptions=descriptions)}
    files |= {entry.path: entry for entry in earlier.manifest.files if not entry.is_description}
    return store.commit(address.name, [*files.values()], **fields)


def _with_equal_tables(
    store: ArtifactStore, address: ArtifactAddress, tokenized: TokenizedDataset
) -> Artifact | None:
    """Return the newest publication of the same examples, if there is one and it is intact."""
    counted = TokenizedDatasetAttributes.model_validate(tokenized.statistics)
    counts = counted.model_dump(include={"train_tokens", "train_examples", "held_out_examples"})
    for earlier in history(store, address):
        with suppress(ArtifactError):
            stated = TokenizedDatasetAttributes.of(earlier).model_dump(include={*counts})
            if (
                stated == counts  # before anything is fetched
                and earlier.read_table(TRAIN_FILE).equals(tokenized.train)
                and earlier.read_table(HELD_OUT_FILE).equals(tokenized.held_out)
                and earlier.is_complete()
            ):
                return earlier
    return None
