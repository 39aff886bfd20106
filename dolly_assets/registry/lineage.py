"""Which records, which code, which hyper-parameters and which devices made an artifact: read off the manifests.

It knows the store alone, so it answers for what any Dagster instance made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.names import epoch_key
from dolly_assets.datasets.licenses import license_attributes, licensed_inputs
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import GPU_PROFILE
from dolly_assets.registry.queries import history
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.tokenization.tokenized_dataset import HELD_OUT_FILE, TRAIN_FILE
from dolly_assets.training.packing.batches import rows_by_step

_CODE = ("run_id", "dolly_assets", "code", "host")
_DEVICES = ("device_kind", "device_names", "gpu_model", "hostname")
_SOURCE = ("source", "revision", "license", "rows", "content_digest")
_SPLIT = ("train_examples", "held_out_examples", "dropped_too_long", "train_tokens")


@dataclass(frozen=True)
class Place:
    """Where a record went in an epoch: the row that held it, and the optimizer step, counted over all epochs from 1."""

    epoch: int
    row: int
    step: (
        int | None
    )  # None where the epoch left the row out, with others that filled no whole global batch


@dataclass(frozen=True)
class Lineage:
    """An artifact, and everything that it was made from, as far as the store still has it."""

    store: ArtifactStore
    artifact: Artifact

    @cached_property
    def made_from(self) -> dict[str, dict[str, Artifact | str]]:
        """For every artifact of the lineage, nearest first: its inputs by name; of one that is gone, the digest."""
        found: dict[str, dict[str, Artifact | str]] = {}
        waiting = [self.artifact]
        while waiting:
            item = waiting.pop(0)
            if _id(item) in found:
                continue
            inputs = {
                name: self._find(item, name, digest)
                for name, digest in item.manifest.inputs.items()
            }
            found[_id(item)] = inputs
            waiting += [each for each in inputs.values() if isinstance(each, Artifact)]
        return found

    @cached_property
    def ancestors(self) -> list[Artifact]:
        """The artifact and all that it was made from, each once, nearest first."""
        everything = {_id(self.artifact): self.artifact}
        for inputs in self.made_from.values():
            everything |= {
                _id(each): each for each in inputs.values() if isinstance(each, Artifact)
            }
        return list(everything.values())

    def of_kind(self, kind: str) -> Artifact | None:
        """The nearest artifact of a kind."""
        return next((each for each in self.ancestors if each.manifest.kind == kind), None)

    def as_json(self) -> dict[str, Any]:
        """All answers, ready for JSON; null where the manifests do not say."""
        return {
            "artifact": _described(self.artifact),
            "records": self._records(),
            "base_model": self._base_model(),
            "hyper_parameters": self._attribute("recipe"),
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
        """Where a record of the raw dataset went, epoch by epoch up to the artifact's; or why it was not trained on.

        Raises:
            ArtifactError: The lineage holds no training, or does not say in which order it took its
                rows.
        """
        tokenized = self._tokenized()
        train = tokenized.read_table(TRAIN_FILE).select(["record", "row"])
        place = np.flatnonzero(train["record"].to_numpy() == record)
        if not len(place):
            held_out = record in tokenized.read_table(HELD_OUT_FILE)["record"].to_numpy()
            return (
                "it is held out"
                if held_out
                else "it is not among the examples: too long, or no such record"
            )
        row = int(train["row"].to_numpy()[place[0]])
        places = []
        for epoch, steps in enumerate(self._steps(), start=1):
            step = np.flatnonzero((steps == row).any(axis=1))
            places.append(
                Place(
                    epoch, row, int(step[0]) + 1 + (epoch - 1) * len(steps) if len(step) else None
                )
            )
        return places

    def records_of(self, step: int) -> list[int]:
        """The records that an optimizer step, counted over all epochs from 1, was computed from.

        Raises:
            ArtifactError: The training has no such step, or the manifests do not say.
        """
        epochs = self._steps()
        per_epoch = len(epochs[0]) if epochs else 0
        if not 1 <= step <= per_epoch * len(epochs):
            raise ArtifactError(
                f"{self.artifact.name} has steps 1 to {per_epoch * len(epochs)}, and no step {step}"
            )
        rows = epochs[(step - 1) // per_epoch][(step - 1) % per_epoch]
        train = self._tokenized().read_table(TRAIN_FILE)
        return np.sort(train["record"].to_numpy()[np.isin(train["row"].to_numpy(), rows)]).tolist()

    def _steps(self) -> Sequence[np.ndarray]:
        """The rows of every step, for each epoch up to the artifact's."""
        recipe, checkpoint = self._attribute("recipe"), self.of_kind("model_checkpoint")
        if recipe is None or checkpoint is None:
            raise ArtifactError(
                f"{self.artifact.name}: its manifests do not say with which recipe it was trained"
            )
        rows = int(self._tokenized().read_table(TRAIN_FILE)["row"].to_numpy().max()) + 1
        return [
            rows_by_step(
                rows,
                global_batch_size=recipe["global_batch_size"],
                seed=recipe["seed"],
                epoch=epoch,
            )
            for epoch in range(int(str(checkpoint.manifest.attributes["epoch"])))
        ]

    def _tokenized(self) -> Artifact:
        found = self.of_kind("tokenized_dataset")
        if found is None:
            raise ArtifactError(
                f"{self.artifact.name} was made from no tokenized dataset that the store still has"
            )
        return found

    def _records(self) -> dict[str, Any] | None:
        raw, tokenized = self.of_kind("raw_dataset"), self.of_kind("tokenized_dataset")
        if raw is None:
            return None
        split = _some(tokenized.manifest.attributes, _SPLIT) if tokenized else {}
        return {
            "dataset": ArtifactAddress.parse(raw.name).dataset,
            **_some(raw.manifest.attributes, _SOURCE),
            **split,
        }

    def _base_model(self) -> dict[str, Any] | None:
        base = self.of_kind("base_model")
        return (
            _some(base.manifest.attributes, ("source", "revision", "license", "architecture"))
            if base
            else None
        )

    def _attribute(self, name: str) -> Any:
        """Of the nearest checkpoint, or of the artifact itself."""
        return (self.of_kind("model_checkpoint") or self.artifact).manifest.attributes.get(name)

    def _devices(self) -> Iterator[dict[str, Any]]:
        """Those of each epoch that the lineage holds, by the profiles of the same training."""
        for checkpoint in (
            each for each in self.ancestors if each.manifest.kind == "model_checkpoint"
        ):
            trained = checkpoint.manifest.attributes
            profile = self._profile_of(checkpoint)
            seen = _some(profile.manifest.attributes, _DEVICES) if profile else {}
            yield {"epoch": trained["epoch"], "ranks": trained.get("ranks"), **seen}

    def _profile_of(self, checkpoint: Artifact) -> Artifact | None:
        at = ArtifactAddress.parse(checkpoint.name)
        training = checkpoint.manifest.attributes.get("training")
        profiles = history(self.store, GPU_PROFILE.address(at.family, at.dataset, at.epoch))
        made = [each for each in profiles if each.manifest.attributes.get("training") == training]
        before = [
            each for each in made if each.manifest.created_at <= checkpoint.manifest.created_at
        ]
        return next(iter(before or made), None)

    def _licenses(self) -> dict[str, Any]:
        """As the newest publications of data and base model state them, not as they were when it was trained."""
        raw, base, tokenized = (
            self.of_kind(kind) for kind in ("raw_dataset", "base_model", "tokenized_dataset")
        )
        if not (raw and base and tokenized):
            return {"licenses": None, "commercial_use": None, "obligations": None}
        stated = [str(each.manifest.attributes.get("license", "unknown")) for each in (raw, base)]
        at = ArtifactAddress.parse(tokenized.name)
        inputs = licensed_inputs(
            at.family, at.dataset, dataset_license=stated[0], base_model_license=stated[1]
        )
        return license_attributes(inputs)

    def _find(self, item: Artifact, name: str, digest: str) -> Artifact | str:
        for candidate in _candidates(item.name, name):
            try:
                return self.store.get(candidate, digest)
            except ArtifactError:
                continue
        return digest


def lineage_text(lineage: Lineage) -> str:
    """The answers, and below them what was made from what, as a tree."""
    facts = lineage.as_json()
    lines = [f"{lineage.artifact.name}  {lineage.artifact.digest[:12]}"]
    for title, name in (
        ("records", "records"),
        ("base model", "base_model"),
        ("recipe", "hyper_parameters"),
        ("licences", "licenses"),
    ):
        lines.append(f"  {title:<11} {_pairs(facts[name]) if facts[name] else 'not recorded'}")
    lines += [f"  {'obliges to':<11} {each}" for each in facts["obligations"] or []]
    lines += [f"  {'devices':<11} {_pairs(each)}" for each in facts["devices"]]
    lines += [f"  {'code':<11} {_pairs(each)}" for each in facts["code"][:1]]
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


def _candidates(artifact: str, input_name: str) -> Iterator[str]:
    """What an input may be called in the store: it is written as an asset's name, by an artifact of some partition."""
    if "/" in input_name:
        yield input_name
        return
    family, _, *partition = artifact.split("/")
    if input_name == "raw_dataset":
        yield f"{input_name}/{partition[0] if partition else family}"
        return
    base = f"{family}/{input_name}"
    dataset, *epoch = partition
    for number in (int(epoch[0]), int(epoch[0]) - 1) if epoch else ():
        yield f"{base}/{dataset}/{epoch_key(max(0, number))}"
    yield f"{base}/{dataset}"
    yield base


def _id(item: Artifact | str) -> str:
    return f"{item.name}@{item.digest}" if isinstance(item, Artifact) else item


def _described(item: Artifact) -> dict[str, Any]:
    made = item.manifest
    facts = {
        "training": made.attributes.get("training"),
        "settings": made.attributes.get("settings"),
    }
    return {
        "name": item.name,
        "digest": item.digest,
        "kind": made.kind,
        "uri": item.uri,
        "created_at": made.created_at.isoformat(),
        **facts,
    }


def _some(values: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if values.get(name) not in (None, "", [])}


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value}" for name, value in values.items() if value not in (None, "", {}, [])
    )
