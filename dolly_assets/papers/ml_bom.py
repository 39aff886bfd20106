"""The ML-BOM: a CycloneDX 1.6 document of a model and of what it was made from.

Knows CycloneDX's keys (https://cyclonedx.org/docs/1.6/json/). The document is plain JSON, since
libraries of CycloneDX have no class for model cards. The same model gives the same document.
"""

import uuid
from collections.abc import Mapping
from typing import Any

from dolly_assets.datasets.licenses import spdx_id, terms_of
from dolly_assets.papers.record import ModelRecord
from dolly_assets.papers.wording import source_name
from dolly_assets.profiling.analysis.cost import JOULES_PER_KWH
from dolly_assets.registry.kinds import BASE_MODEL, RAW_DATASET, TOKENIZED_DATASET
from dolly_assets.storage.artifact import Artifact

_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_GRAMS_PER_TONNE = 1e6
_DATASETS = (RAW_DATASET.name, TOKENIZED_DATASET.name)


def ml_bom(record: ModelRecord) -> dict[str, Any]:
    """Return the document, ready for JSON."""
    model = record.model
    others = [each for each in record.lineage.ancestors if each is not model]
    return {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, _ref(model))}",
        "version": 1,
        "metadata": {
            "timestamp": model.manifest.created_at.isoformat(),
            "tools": {"components": [_tool(record)]},
            "component": _model(record),
        },
        "components": [_component(record, each) for each in others],
        "dependencies": _dependencies(record),
    }


def _ref(artifact: Artifact) -> str:
    return f"{artifact.name}@{artifact.digest}"


def _tool(record: ModelRecord) -> dict[str, Any]:
    made_by = record.model.manifest.made_by
    version = made_by.get("dolly_assets")
    code = made_by.get("code")
    return {
        "type": "application",
        "name": "dolly_assets",
        **({"version": version} if version else {}),
        **({"properties": _properties({"dolly:code_sha256": code})} if code else {}),
    }


def _model(record: ModelRecord) -> dict[str, Any]:
    """Return the model itself, with its card and its files."""
    model = record.model
    return {
        **_identity("machine-learning-model", model),
        "description": record.title,
        "licenses": _licenses(record.facts["licenses"]),
        "modelCard": _model_card(record),
        "properties": _properties(
            {
                "dolly:weights_sha256": record.stated.weights_sha256,
                "dolly:training": record.stated.training,
                "dolly:commercial_use": record.facts["commercial_use"],
            }
        ),
        "components": _files(model),
    }


def _files(model: Artifact) -> list[dict[str, Any]]:
    """Return the files that loading a model needs, with their hashes."""
    return [
        {
            "type": "file",
            "bom-ref": f"{_ref(model)}#{entry.path}",
            "name": entry.path,
            "hashes": [{"alg": "SHA-256", "content": entry.sha256}],
        }
        for entry in model.manifest.files
        if entry.path.startswith(("weights/", "adapter/"))
    ]


def _component(record: ModelRecord, artifact: Artifact) -> dict[str, Any]:
    """Return something that the model was made from."""
    stated = artifact.manifest.attributes
    is_data = artifact.manifest.kind in _DATASETS
    license_id = stated.get("license")
    origin = source_name(str(stated["source"])) if stated.get("source") else None
    found = {
        **_identity("data" if is_data else "machine-learning-model", artifact),
        **({"licenses": _licenses({"": str(license_id)})} if license_id else {}),
        "properties": _properties(
            {
                "dolly:kind": artifact.manifest.kind,
                "dolly:source": origin,
                "dolly:revision": stated.get("revision"),
                "dolly:content_sha256": stated.get("content_digest"),
            }
        ),
    }
    if is_data:
        found["data"] = [{"type": "dataset", "name": artifact.name}]
    if artifact.manifest.kind == BASE_MODEL.name and record.base_model:
        found["description"] = f"base model, {origin}"
    return found


def _identity(kind: str, artifact: Artifact) -> dict[str, Any]:
    return {
        "type": kind,
        "bom-ref": _ref(artifact),
        "name": artifact.name,
        "version": artifact.digest,
    }


def _licenses(licenses: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """Return each licence once, by its SPDX id or else by its name."""
    found: dict[str, dict[str, Any]] = {}
    for name in (licenses or {}).values():
        terms, spdx = terms_of(name), spdx_id(name)
        url = {"url": terms.source} if terms else {}
        identity = {"id": spdx} if spdx else {"name": name}
        found[spdx or name] = {"license": {**identity, **url}}
    return [*found.values()]


def _properties(values: Mapping[str, object]) -> list[dict[str, str]]:
    return [{"name": name, "value": str(each)} for name, each in values.items() if each is not None]


def _dependencies(record: ModelRecord) -> list[dict[str, Any]]:
    known = {_ref(each) for each in record.lineage.ancestors}
    return [
        {"ref": _ref(each), "dependsOn": sorted({*_inputs(record, each)} & known)}
        for each in record.lineage.ancestors
    ]


def _inputs(record: ModelRecord, artifact: Artifact) -> list[str]:
    inputs = record.lineage.made_from[_ref(artifact)]
    return [_ref(each) for each in inputs.values() if isinstance(each, Artifact)]


def _model_card(record: ModelRecord) -> dict[str, Any]:
    base = record.base_model
    datasets = [each for each in record.lineage.ancestors if each.manifest.kind in _DATASETS]
    parameters = {
        "approach": {"type": "supervised"},
        "task": "text-generation",
        **({"modelArchitecture": base.architecture} if base and base.architecture else {}),
        "datasets": [{"ref": _ref(each)} for each in datasets],
        "inputs": [{"format": "string"}],
        "outputs": [{"format": "string"}],
    }
    return {
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": _metrics(record)},
        "considerations": _considerations(record),
        "properties": _recipe(record),
    }


def _recipe(record: ModelRecord) -> list[dict[str, str]]:
    recipe: Mapping[str, object] = record.facts["hyper_parameters"] or {}
    return _properties({f"dolly:recipe:{name}": each for name, each in recipe.items()})


def _metrics(record: ModelRecord) -> list[dict[str, Any]]:
    found = []
    evaluation = record.evaluation
    for name in ("exact_match", "token_f1", "held_out_loss"):
        interval = getattr(evaluation, f"{name}_interval", None)
        found.append(_metric(name, getattr(evaluation, name, None), interval, "held-out"))
    for suite, scored in record.suites.items():
        found.append(_metric("score", scored.score, scored.score_interval, suite))
        bits = scored.bits_per_byte
        found.append(_metric("bits_per_byte", bits, scored.bits_per_byte_interval, suite))
    return [metric for metric in found if metric]


def _metric(
    kind: str, found: float | None, interval: tuple[float, float] | None, of: str
) -> dict[str, Any] | None:
    if found is None:
        return None
    metric: dict[str, Any] = {"type": kind, "value": str(found), "slice": of}
    if interval:
        low, high = map(str, interval)
        metric["confidenceInterval"] = {"lowerBound": low, "upperBound": high}
    return metric


def _considerations(record: ModelRecord) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if obligations := record.facts["obligations"]:
        found["useCases"] = [f"commercial use: {record.facts['commercial_use']}", *obligations]
    warnings = [each for suite in record.suites.values() for each in suite.warnings]
    if warnings:
        found["technicalLimitations"] = warnings
    if energy := _energy(record):
        found["environmentalConsiderations"] = {"energyConsumptions": [energy]}
    return found


def _energy(record: ModelRecord) -> dict[str, Any] | None:
    """Return the energy of the GPUs; who provided it is not recorded."""
    joules, co2 = record.measured("energy_joules"), record.measured("co2_grams")
    if joules is None:
        return None
    amount = {"value": joules / JOULES_PER_KWH, "unit": "kWh"}
    provider = {
        "organization": {"name": "not recorded"},
        "energySource": "unknown",
        "energyProvided": amount,
    }
    carbon = {} if co2 is None else {"value": co2 / _GRAMS_PER_TONNE, "unit": "tCO2eq"}
    return {
        "activity": "fine-tuning",
        "energyProviders": [provider],
        "activityEnergyCost": amount,
        **({"co2CostEquivalent": carbon} if carbon else {}),
    }
