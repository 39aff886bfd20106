"""What is exported: a checkpoint or the champion, the prompts it is asked, and former exports.

It knows addresses and attributes; how a model is exported is the business of `exporting/`.
"""

from itertools import islice
from typing import NamedTuple

import pyarrow as pa

from dolly_assets.conversations import Conversation
from dolly_assets.conversations.tables import conversations
from dolly_assets.core.errors import ArtifactError
from dolly_assets.exporting import ExportedModel
from dolly_assets.exporting.settings import Format
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import (
    BaseModelAttributes,
    ChampionExportAttributes,
    FormatExport,
)
from dolly_assets.registry.inputs import required_digest
from dolly_assets.registry.kinds import (
    BASE_MODEL,
    CHAMPION_EXPORT,
    MODEL_CHECKPOINT,
    TOKENIZED_DATASET,
)
from dolly_assets.registry.model_folders import fetch, has_weights
from dolly_assets.registry.queries import history, latest, newest_training
from dolly_assets.registry.stages import model_in
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.tokenization.tokenized_dataset import HELD_OUT_FILE
from dolly_assets.training.base_model.config import is_path


class FormerExport(NamedTuple):
    """An export in the store: the artifact, which has a folder of the format's name."""

    artifact: Artifact
    of: FormatExport


def checkpoint_to_export(
    store: ArtifactStore, family: ModelFamily, dataset: str, epoch: int | None
) -> Artifact:
    """Return the checkpoint of an epoch, or the champion.

    Args:
        store: Where it is.
        family: The family.
        dataset: The dataset.
        epoch: The epoch; None for the champion.

    Raises:
        ArtifactError: It is not published.
    """
    if epoch is None:
        found = model_in(store, family.name, dataset, "production")
        missing = "no champion"
    else:
        found = latest(store, MODEL_CHECKPOINT.address(family.name, dataset, epoch))
        missing = f"no epoch {epoch}"
    if found:
        return found
    published = sorted(newest_training(store, family, dataset))
    known = f"epochs {', '.join(map(str, published))}" if published else "nothing"
    raise ArtifactError(
        f"{family.name}/{dataset} has {missing} in the store {store.url}, which has {known}: an "
        "epoch is published when its training has ended; run dolly train"
    )


def exported_model(
    store: ArtifactStore, family: ModelFamily, checkpoint: Artifact
) -> ExportedModel:
    """Return a published model as the library exports it; its files are fetched.

    Raises:
        ArtifactError: The store lacks its weights, or the base model of an adapter.
    """
    weights, adapter, template = fetch(store, checkpoint)
    base, revision = _on_the_hub(store, checkpoint) if adapter else (None, None)
    return ExportedModel(weights, adapter, template, family.prompt_style, base, revision)


def adapter_model(store: ArtifactStore, family: ModelFamily, checkpoint: Artifact) -> ExportedModel:
    """Return a model as its base model and its adapter, also where merged weights are published.

    Raises:
        ArtifactError: The store lacks either.
    """
    model = exported_model(store, family, checkpoint)
    is_both = has_weights(checkpoint) and any(
        entry.path.startswith("adapter/") for entry in checkpoint.manifest.files
    )
    if not is_both:
        return model
    base = store.get(BASE_MODEL.address(family.name).name, required_digest(checkpoint, BASE_MODEL))
    hub_id, revision = _on_the_hub(store, checkpoint)
    return ExportedModel(
        base.fetch("weights"),
        checkpoint.fetch("adapter"),
        model.template,
        family.prompt_style,
        hub_id,
        revision,
    )


def held_out_prompts(
    store: ArtifactStore, family: str, dataset: str, checkpoint: Artifact, count: int
) -> list[Conversation]:
    """Return prompts of the held-out split that a model was not trained on, spread over it."""
    tokenized = store.get(
        TOKENIZED_DATASET.address(family, dataset).name,
        required_digest(checkpoint, TOKENIZED_DATASET),
    )
    table: pa.Table = tokenized.read_table(HELD_OUT_FILE)
    step = max(1, table.num_rows // count)
    found = conversations(table.take([*range(0, table.num_rows, step)][:count]))
    return [each.prompt for each in islice(found, count)]


def former_export(
    store: ArtifactStore, family: str, dataset: str, export_format: Format, key: str
) -> FormerExport | None:
    """Return the export of the same weights with the same settings, if the store has it whole."""
    for artifact in history(store, CHAMPION_EXPORT.address(family, dataset)):
        found = ChampionExportAttributes.of(artifact).exports.get(export_format)
        if found and found.key == key and artifact.is_complete(export_format):
            return FormerExport(artifact, found)
    return None


def _on_the_hub(store: ArtifactStore, checkpoint: Artifact) -> tuple[str | None, str | None]:
    """Return Hub id and commit of an adapter's base model, unless preparation changed it."""
    family = ArtifactAddress.parse(checkpoint.name).family
    base = store.get(BASE_MODEL.address(family).name, required_digest(checkpoint, BASE_MODEL))
    stated = BaseModelAttributes.of(base)
    is_changed = stated.new_tokens is None or bool(stated.new_tokens)
    if is_changed or stated.revision is None or is_path(stated.source):
        return None, None
    return stated.source, stated.revision
