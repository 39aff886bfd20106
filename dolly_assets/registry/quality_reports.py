"""Quality reports in the store: found by what they are about, or made.

Training is refused by what they say.

A report holds what was found; the limits lie beside the raw dataset, and are laid on each time it
is read.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from dolly_assets.core.errors import QualityError
from dolly_assets.datasets.licenses import Licensed, check_use, licensed_inputs
from dolly_assets.datasets.quality.checks import CheckName, Limits
from dolly_assets.datasets.quality.finding import QualityFinding
from dolly_assets.datasets.quality.report import Verdict, judged, refusal
from dolly_assets.datasets.quality.split import Split
from dolly_assets.datasets.quality.suite import VERSION, check_dataset, check_split
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import DATASET_QUALITY, RAW_DATASET
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.conventions import TABLE_FILE

FINDINGS_FILE = "quality.json"
_FINDINGS = TypeAdapter(list[QualityFinding])
_LIMITS = TypeAdapter(dict[CheckName, Limits])


def dataset_verdicts(store: ArtifactStore, raw_dataset: Artifact) -> list[Verdict]:
    """All checks of a raw dataset. What was found before is not looked for again."""
    dataset = _dataset_of(raw_dataset)
    findings = _findings(
        store,
        DATASET_QUALITY.address(dataset=dataset).name,
        inputs={"raw_dataset": raw_dataset.digest},
        settings={"version": VERSION},
        check=lambda: check_dataset(raw_dataset.read_table(TABLE_FILE)),
    )
    return judged(findings, limits_beside(raw_dataset))


def split_verdicts(
    store: ArtifactStore, family: ModelFamily, tokenized_dataset: Artifact
) -> list[Verdict]:
    """The checks that need to know what the family holds out and asks."""
    raw_dataset = raw_of(store, tokenized_dataset)
    dataset = _dataset_of(tokenized_dataset)
    markers = [marker.strip() for marker in family.prompt_style.special_tokens]
    prompts = [(prompt.instruction, prompt.context) for prompt in family.evaluation.prompts]

    def check() -> list[QualityFinding]:
        split = Split(
            **{side: _records_of(tokenized_dataset, side) for side in ("train", "held_out")}
        )
        return check_split(
            raw_dataset.read_table(TABLE_FILE), split, markers=markers, prompts=prompts
        )

    findings = _findings(
        store,
        DATASET_QUALITY.address(family.name, dataset).name,
        inputs={"raw_dataset": raw_dataset.digest, "tokenized_dataset": tokenized_dataset.digest},
        settings={"version": VERSION, "markers": markers, "prompts": prompts},
        check=check,
    )
    return judged(findings, limits_beside(raw_dataset))


def require_sound(store: ArtifactStore, raw_dataset: Artifact) -> None:
    """Raises QualityError if a check of the raw dataset stops training."""
    _require(dataset_verdicts(store, raw_dataset), raw_dataset)


def require_trainable(
    store: ArtifactStore, family: ModelFamily, tokenized_dataset: Artifact
) -> None:
    """Refuses what must not be trained on, whoever asks and whatever was materialized before.

    Raises:
        LicenseError: The family's use is not what a licence allows.
        QualityError: A check stops training; the text says what it found.
    """
    raw_dataset = raw_of(store, tokenized_dataset)
    check_use(family.use, licenses_of(family, raw_dataset))
    require_sound(store, raw_dataset)
    _require(split_verdicts(store, family, tokenized_dataset), raw_dataset)


def licenses_of(family: ModelFamily, raw_dataset: Artifact) -> tuple[Licensed, ...]:
    """What the family's models of a dataset are made from."""
    return licensed_inputs(
        family.name,
        _dataset_of(raw_dataset),
        dataset_license=str(raw_dataset.manifest.attributes.get("license", "unknown")),
        base_model_license=family.base_model.license,
    )


def raw_of(store: ArtifactStore, tokenized_dataset: Artifact) -> Artifact:
    """The newest publication of what a tokenized dataset was made from."""
    dataset = _dataset_of(tokenized_dataset)
    return store.get(
        RAW_DATASET.address(dataset=dataset).name, tokenized_dataset.manifest.inputs["raw_dataset"]
    )


def limits_beside(raw_dataset: Artifact) -> dict[CheckName, Limits]:
    """What the dataset's YAML said of checks when it was read."""
    return _LIMITS.validate_python(raw_dataset.manifest.attributes.get("checks") or {})


def _dataset_of(artifact: Artifact) -> str:
    return ArtifactAddress.parse(artifact.name).dataset


def _require(verdicts: Sequence[Verdict], raw_dataset: Artifact) -> None:
    if why := refusal(verdicts, _dataset_of(raw_dataset)):
        raise QualityError(why)


def _records_of(tokenized_dataset: Artifact, side: str) -> np.ndarray:
    return tokenized_dataset.read_table(f"{side}.arrow")["record"].to_numpy()


def _findings(
    store: ArtifactStore,
    name: str,
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    check: Callable[[], list[QualityFinding]],
) -> list[QualityFinding]:
    """Those of an earlier report on the same inputs with the same settings, or new ones, that are then published."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    for report in store.history(name):
        if report.manifest.inputs == inputs and report.manifest.attributes["settings"] == digest:
            return _FINDINGS.validate_json(report.read_bytes(FINDINGS_FILE))
    findings = check()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FINDINGS_FILE
        file.write_bytes(_FINDINGS.dump_json(findings, indent=1))
        found = {finding.check: finding.found for finding in findings}
        store.publish(
            name,
            {FINDINGS_FILE: file},
            kind=DATASET_QUALITY.name,
            inputs=inputs,
            attributes={"settings": digest, "found": dict[str, Any](found)},
        )
    return findings
