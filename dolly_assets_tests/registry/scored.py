"""Checkpoints of the family `tiny` with their scores, of a few bytes each."""

from dolly_assets.core.names import epoch_key
from dolly_assets.storage.artifact import Artifact
from dolly_assets_tests.fixtures.stores import Publish
from dolly_assets_tests.tiny_training import DATASET

MINE = {"raw_dataset[animals]": "apache-2.0"}


def publish_epochs(publish: Publish) -> list[Artifact]:
    """Epochs 0 to 6, of which some may not be promoted.

    The first is of a licence that forbids commerce, the second was not scored, the last reproduces
    its training records.
    """
    inputs = {
        "tiny/base_model": publish(["tiny", "base_model"]).digest,
        f"tiny/tokenized_dataset/{DATASET}": publish(["tiny", "tokenized_dataset"], DATASET).digest,
    }
    found = []
    for epoch in range(7):
        of = (DATASET, epoch_key(epoch))
        licenses = {"raw_dataset[animals]": "cc-by-nc-4.0"} if epoch == 1 else MINE
        stated = {"epoch": epoch, "training": "t", "licenses": licenses, "template": "chatml"}
        key = ["tiny", "model_checkpoint"]
        found.append(publish(key, *of, inputs=inputs, attributes=stated))
        if epoch != 2:
            publish(
                ["tiny", "evaluation"],
                *of,
                inputs={found[-1].name: found[-1].digest},
                attributes={
                    "held_out_loss": 1.0,
                    "held_out_loss_interval": [0.9, 1.1],
                    "memorization": 0.5 if epoch == 6 else 0.05,
                    "memorization_interval": [0.3, 0.65] if epoch == 6 else [-0.1, 0.2],
                },
            )
    return found
