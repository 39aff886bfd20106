"""Reports of data quality in the store: found by what they are about, or computed and published.

Trainings are refused by what they state. A report holds what was found; the limits lie beside the
raw dataset, and apply each time that a report is read.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from dolly_assets.core.errors import QualityError
from dolly_assets.core.hashing import json_digest
from dolly_assets.datasets.licenses import UNKNOWN, Licensed, check_use, licensed_inputs
from dolly_assets.datasets.quality.checks import CheckName, Limits
from dolly_assets.datasets.quality.finding import QualityFinding
from dolly_assets.datasets.quality.report import Verdict, judged, refusal
from dolly_assets.datasets.quality.split import Split
from dolly_assets.datasets.quality.suite import VERSION, check_dataset, check_split
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import QualityAttributes
from dolly_assets.registry.inputs import as_inputs, inputs_of, required_digest
from dolly_assets.registry.kinds import DATASET_QUALITY, RAW_DATASET
from dolly_assets.registry.queries import history
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.conventions import TABLE_FILE

FINDINGS_FILE = "quality.json"
_FINDINGS = TypeAdapter(list[QualityFinding])
_LIMITS = TypeAdapter(dict[CheckName, Limits])


def dataset_verdicts(store: ArtifactStore, raw_dataset: Artifact) -> list[Verdict]:
    """Return the verdicts of all checks of a raw dataset; an earlier report is used again."""
    dataset = _dataset_of(raw_dataset)
    findings = _findings(
        store,
        DATASET_QUALITY.address(dataset=dataset),
        inputs=as_inputs(raw_dataset),
        settings={"version": VERSION},
        check=lambda: check_dataset(raw_dataset.read_table(TABLE_FILE)),
    )
    return judged(findings, limits_beside(raw_dataset))


def split_verdicts(
    store: ArtifactStore, family: ModelFamily, tokenized_dataset: Artifact
) -> list[Verdict]:
    """Return the verdicts of the checks that depend on the family's split and prompts."""
    raw_dataset = raw_of(store, tokenized_dataset)
    dataset = _dataset_of(tokenized_dataset)
    markers = [marker.strip() for marker in family.prompt_style.special_tokens]
    prompts = [
        (prompt.instruction or prompt.text, prompt.context) for prompt in family.evaluation.prompts
    ]

    def check() -> list[QualityFinding]:
        split = Split(
            **{side: _records_of(tokenized_dataset, side) for side in ("train", "held_out")}
        )
        return check_split(
            raw_dataset.read_table(TABLE_FILE), split, markers=markers, prompts=prompts
        )

    findings = _findings(
        store,
        DATASET_QUALITY.address(family.name, dataset),
        inputs=as_inputs(raw_dataset, tokenized_dataset),
        settings={"version": VERSION, "markers": markers, "prompts": prompts},
        check=check,
    )
    return judged(findings, limits_beside(raw_dataset))


def require_sound(store: ArtifactStore, raw_dataset: Artifact) -> None:
    """Refuse a raw dataset that must not be trained on.

    Raises:
        QualityError: A check stops training.
    """
    _require(dataset_verdicts(store, raw_dataset), raw_dataset)


def require_trainable(
    store: ArtifactStore, family: ModelFamily, tokenized_dataset: Artifact
) -> None:
    """Refuse what must not be trained on, whatever was materialized before.

    Raises:
        LicenseError: A licence doesn't allow the family's use.
        QualityError: A check stops training; the text states what it found.
    """
    raw_dataset = raw_of(store, tokenized_dataset)
    check_use(family.use, licenses_of(family, raw_dataset))
    require_sound(store, raw_dataset)
    _require(split_verdicts(store, family, tokenized_dataset), raw_dataset)


def licenses_of(family: ModelFamily, raw_dataset: Artifact) -> tuple[Licensed, ...]:
    """Return what the family's models of a dataset are made from, with their licences."""
    return licensed_inputs(
        family.name,
        _dataset_of(raw_dataset),
        dataset_license=str(raw_dataset.manifest.attributes.get("license", UNKNOWN)),
        base_model_license=family.base_model.license,
    )


def raw_of(store: ArtifactStore, tokenized_dataset: Artifact) -> Artifact:
    """Return the newest publication of what a tokenized dataset was made from.

    Raises:
        ArtifactError: The store no longer has it.
    """
    name = RAW_DATASET.address(dataset=_dataset_of(tokenized_dataset)).name
    return store.get(name, required_digest(tokenized_dataset, RAW_DATASET))


def limits_beside(raw_dataset: Artifact) -> dict[CheckName, Limits]:
    """Return the limits of checks that the dataset's YAML set when the dataset was read."""
    return _LIMITS.validate_python(raw_dataset.manifest.attributes.get("checks") or {})


def _dataset_of(artifact: Artifact) -> str:
    return ArtifactAddress.parse(artifact.name).dataset


def _require(verdicts: Sequence[Verdict], raw_dataset: Artifact) -> None:
    if why := refusal(verdicts, _dataset_of(raw_dataset)):
        raise QualityError(why)


def _records_of(tokenized_dataset: Artifact, side: str) -> np.ndarray:
    """Return the records on a side of the split, each once: some give several examples."""
    return np.unique(tokenized_dataset.read_table(f"{side}.arrow")["record"].to_numpy())


def _findings(
    store: ArtifactStore,
    address: ArtifactAddress,
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, object],
    check: Callable[[], list[QualityFinding]],
) -> list[QualityFinding]:
    """Return the findings of an earlier report on the same inputs with the same settings.

    Without one they are computed and published.
    """
    digest = json_digest(settings)
    for report in history(store, address):
        if inputs_of(report) == inputs and QualityAttributes.of(report).settings == digest:
            return _FINDINGS.validate_json(report.read_bytes(FINDINGS_FILE))
    findings = check()
    found = {finding.check: finding.found for finding in findings}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FINDINGS_FILE
        file.write_bytes(_FINDINGS.dump_json(findings, indent=1))
        store.publish(
            address.name,
            {FINDINGS_FILE: file},
            kind=DATASET_QUALITY.name,
            inputs=inputs,
            attributes=QualityAttributes(settings=digest, found=dict(found)).as_json(),
        )
    return findings
