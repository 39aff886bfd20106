"""Which records, code, hyper-parameters and devices made an artifact, read from the manifests.

It knows the store alone, so it also describes what other Dagster instances have published.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import JsonValue

from dolly_assets.core.errors import ArtifactError
from dolly_assets.datasets.licenses import UNKNOWN, license_attributes, licensed_inputs
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import Attributes, CheckpointAttributes
from dolly_assets.registry.inputs import inputs_of
from dolly_assets.registry.kinds import (
    BASE_MODEL,
    GPU_PROFILE,
    MODEL_CHECKPOINT,
    RAW_DATASET,
    TOKENIZED_DATASET,
    AssetKind,
)
from dolly_assets.registry.queries import history, training_of
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.tokenization.tokenized_dataset import HELD_OUT_FILE, TRAIN_FILE
from dolly_assets.training.packing.batches import rows_by_step

_CODE = ("run_id", "dolly_assets", "code", "host")
_DEVICES = ("device_kind", "device_names", "gpu_model", "hostname")
_SOURCE = ("source", "revision", "license", "rows", "content_digest")
_SPLIT = ("train_examples", "held_out_examples", "dropped_too_long", "train_tokens")
_BASE_MODEL = ("source", "revision", "license", "architecture")


@dataclass(frozen=True)
class Place:
    """Where a record was used in an epoch.

    Attributes:
        epoch: The epoch.
        row: The row that held the record.
        step: The optimizer step, counted over all epochs from 1. None if the epoch left the row
            out, among those that filled no whole global batch.
    """

    epoch: int
    row: int
    step: int | None


@dataclass(frozen=True)
class Lineage:
    """An artifact and everything that it was made from, as far as the store still has it."""

    store: ArtifactStore
    artifact: Artifact

    @cached_property
    def made_from(self) -> dict[str, dict[str, Artifact | str]]:
        """The inputs of every artifact of the lineage, by name, nearest first.

        An input that the store no longer has is its digest.
        """
        found: dict[str, dict[str, Artifact | str]] = {}
        waiting = [self.artifact]
        while waiting:
            item = waiting.pop(0)
            if _id(item) in found:
                continue
            inputs = {name: self._find(name, digest) for name, digest in inputs_of(item).items()}
            found[_id(item)] = inputs
            waiting += [each for each in inputs.values() if isinstance(each, Artifact)]
        return found

    @cached_property
    def ancestors(self) -> list[Artifact]:
        """The artifact and everything that it was made from, each once, nearest first."""
        everything = {_id(self.artifact): self.artifact}
        for inputs in self.made_from.values():
            everything |= {
                _id(each): each for each in inputs.values() if isinstance(each, Artifact)
            }
        return list(everything.values())

    def of_kind(self, kind: AssetKind) -> Artifact | None:
        """Return the nearest artifact of a kind."""
        return next((each for each in self.ancestors if each.manifest.kind == kind.name), None)

    def as_json(self) -> dict[str, Any]:
        """Return all answers, ready for JSON; null where the manifests don't state them."""
        return {
            "artifact": _described(self.artifact),
            "records": self._records(),
            "base_model": self._base_model(),
            "hyper_parameters": self._recipe(),
            "code": [
                {"artifact": each.name, **_some(each.manifest.made_by, _CODE)}
                for each in self.ancestors
            ],
            "devices": list(self._devices()),
            **self._licenses(),
            "made_from": [
                {
                    **_described(each),
                    "inputs": {name: _id(of) for name, of in self.made_from[_id(each)].items()},
                }
                for each in self.ancestors
            ],
        }

    def places_of(self, record: int) -> list[Place] | str:
        """Return where a record of the raw dataset was used, or why it was not trained on.

        Args:
            record: The index of the record in the raw dataset.

        Returns:
            The record's places in every epoch up to the artifact's, several if it gave several
            examples; or the reason as text.

        Raises:
            ArtifactError: The lineage holds no training, or doesn't state the order of its rows.
        """
        tokenized = self._tokenized()
        train = tokenized.read_table(TRAIN_FILE).select(["record", "row"])
        place = np.flatnonzero(train["record"].to_numpy() == record)
        if not len(place):
            is_held_out = record in tokenized.read_table(HELD_OUT_FILE)["record"].to_numpy()
            return (
                "it is held out"
                if is_held_out
                else "it is not among the examples: too long, or no such record"
            )
        rows = np.unique(train["row"].to_numpy()[place]).tolist()
        return [
            Place(epoch, row, _step_of(row, steps, epoch))
            for epoch, steps in enumerate(self._steps(), start=1)
            for row in rows
        ]

    def records_of(self, step: int) -> list[int]:
        """Return the records that an optimizer step was computed from.

        Args:
            step: The step, counted over all epochs from 1.

        Raises:
            ArtifactError: The training has no such step, or the manifests don't state its rows.
        """
        epochs = self._steps()
        per_epoch = len(epochs[0]) if epochs else 0
        if not 1 <= step <= per_epoch * len(epochs):
            raise ArtifactError(
                f"{self.artifact.name} has steps 1 to {per_epoch * len(epochs)}, and no step {step}"
            )
        rows = epochs[(step - 1) // per_epoch][(step - 1) % per_epoch]
        train = self._tokenized().read_table(TRAIN_FILE)
        used = train["record"].to_numpy()[np.isin(train["row"].to_numpy(), rows)]
        return np.unique(used).tolist()

    def _steps(self) -> Sequence[np.ndarray]:
        """Return the rows of every step, for each epoch up to the artifact's."""
        recipe, checkpoint = self._recipe(), self.of_kind(MODEL_CHECKPOINT)
        if recipe is None or checkpoint is None:
            raise ArtifactError(
                f"{self.artifact.name}: its manifests do not state the recipe of its training"
            )
        rows = int(self._tokenized().read_table(TRAIN_FILE)["row"].to_numpy().max()) + 1
        return [
            rows_by_step(
                rows,
                global_batch_size=int(str(recipe["global_batch_size"])),
                seed=int(str(recipe["seed"])),
                epoch=epoch,
            )
            for epoch in range(CheckpointAttributes.of(checkpoint).epoch)
        ]

    def _tokenized(self) -> Artifact:
        found = self.of_kind(TOKENIZED_DATASET)
        if found is None:
            raise ArtifactError(
                f"{self.artifact.name} was made from no tokenized dataset that the store still has"
            )
        return found

    def _records(self) -> dict[str, Any] | None:
        raw, tokenized = self.of_kind(RAW_DATASET), self.of_kind(TOKENIZED_DATASET)
        if raw is None:
            return None
        return {
            "dataset": ArtifactAddress.parse(raw.name).dataset,
            **_some(raw.manifest.attributes, _SOURCE),
            **(_some(tokenized.manifest.attributes, _SPLIT) if tokenized else {}),
        }

    def _base_model(self) -> dict[str, Any] | None:
        base_model = self.of_kind(BASE_MODEL)
        return _some(base_model.manifest.attributes, _BASE_MODEL) if base_model else None

    def _recipe(self) -> dict[str, JsonValue] | None:
        """Return the recipe of the nearest checkpoint, or of the artifact itself."""
        item = self.of_kind(MODEL_CHECKPOINT) or self.artifact
        recipe = item.manifest.attributes.get("recipe")
        return recipe if isinstance(recipe, dict) else None

    def _devices(self) -> Iterator[dict[str, Any]]:
        """Yield the devices of each epoch of the lineage, from the profiles of its training."""
        for checkpoint in self.ancestors:
            if checkpoint.manifest.kind == MODEL_CHECKPOINT.name:
                trained = CheckpointAttributes.of(checkpoint)
                profile = self.profile_of(checkpoint)
                seen = _some(profile.manifest.attributes, _DEVICES) if profile else {}
                yield {"epoch": trained.epoch, "ranks": trained.ranks, **seen}

    def profile_of(self, checkpoint: Artifact) -> Artifact | None:
        """Return the profile of a checkpoint's training; of several, the newest before it."""
        at, training = ArtifactAddress.parse(checkpoint.name), training_of(checkpoint)
        profiles = history(self.store, GPU_PROFILE.address(at.family, at.dataset, at.epoch))
        same = [each for each in profiles if training_of(each) == training]
        before = [
            each for each in same if each.manifest.created_at <= checkpoint.manifest.created_at
        ]
        return next(iter(before or same), None)

    def _licenses(self) -> dict[str, Any]:
        """Return the licences as the newest publications of dataset and base model state them."""
        raw, base_model, tokenized = (
            self.of_kind(kind) for kind in (RAW_DATASET, BASE_MODEL, TOKENIZED_DATASET)
        )
        if not (raw and base_model and tokenized):
            return {"licenses": None, "commercial_use": None, "obligations": None}
        stated = [
            str(each.manifest.attributes.get("license", UNKNOWN)) for each in (raw, base_model)
        ]
        at = ArtifactAddress.parse(tokenized.name)
        inputs = licensed_inputs(
            at.family, at.dataset, dataset_license=stated[0], base_model_license=stated[1]
        )
        return license_attributes(inputs)

    def _find(self, name: str, digest: str) -> Artifact | str:
        """Return an input, or its digest if the store no longer has it."""
        try:
            return self.store.get(name, digest)
        except ArtifactError:
            return digest


def _step_of(row: int, steps: np.ndarray, epoch: int) -> int | None:
    """Return the step over all epochs in which an epoch takes a row, if it does."""
    step = np.flatnonzero((steps == row).any(axis=1))
    return (epoch - 1) * len(steps) + int(step[0]) + 1 if len(step) else None


def lineage_text(lineage: Lineage) -> str:
    """Return the answers as text, and below them the tree of what was made from what."""
    answers = lineage.as_json()
    lines = [f"{lineage.artifact.name}  {lineage.artifact.digest[:12]}"]
    for title, name in (
        ("records", "records"),
        ("base model", "base_model"),
        ("recipe", "hyper_parameters"),
        ("licences", "licenses"),
    ):
        lines.append(f"  {title:<11} {_pairs(answers[name]) if answers[name] else 'not recorded'}")
    lines += [f"  {'obligations':<11} {each}" for each in answers["obligations"] or []]
    lines += [f"  {'devices':<11} {_pairs(each)}" for each in answers["devices"]]
    lines += [f"  {'code':<11} {_pairs(each)}" for each in answers["code"][:1]]
    return "\n".join([*lines, "made from", *_tree(lineage, lineage.artifact, set(), "")])


def _tree(lineage: Lineage, item: Artifact, shown: set[str], indent: str) -> Iterator[str]:
    for name, each in lineage.made_from[_id(item)].items():
        if isinstance(each, str):
            yield f"{indent}  {name}  {each[:12]}  no longer in the store"
        elif _id(each) in shown:
            yield f"{indent}  {each.name}  {each.digest[:12]}  (see above)"
        else:
            shown.add(_id(each))
            made = each.manifest
            yield f"{indent}  {each.name}  {each.digest[:12]}  {made.created_at:%Y-%m-%d %H:%M}"
            yield from _tree(lineage, each, shown, indent + "  ")


def _id(item: Artifact | str) -> str:
    return f"{item.name}@{item.digest}" if isinstance(item, Artifact) else item


def _described(item: Artifact) -> dict[str, Any]:
    made, stated = item.manifest, Attributes.of(item)
    return {
        "name": item.name,
        "digest": item.digest,
        "kind": made.kind,
        "uri": item.uri,
        "created_at": made.created_at.isoformat(),
        "training": stated.training,
        "settings": stated.settings,
    }


def _some(values: Mapping[str, JsonValue], names: Sequence[str]) -> dict[str, JsonValue]:
    return {name: values[name] for name in names if values.get(name) not in (None, "", [])}


def _pairs(values: Mapping[str, JsonValue]) -> str:
    return ", ".join(
        f"{name} {value}" for name, value in values.items() if value not in (None, "", {}, [])
    )
