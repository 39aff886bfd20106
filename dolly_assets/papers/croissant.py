"""Croissant 1.0: JSON-LD that describes a raw dataset for catalogues and loaders.

Knows the vocabulary (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html). The one
file is the artifact's Parquet, beside the document.
"""

from typing import Any

from dolly_assets.conversations.tables import COLUMNS, SCHEMAS
from dolly_assets.core.errors import ArtifactError
from dolly_assets.datasets.licenses import terms_of
from dolly_assets.papers.wording import NOT_RECORDED, source_name
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import RawDatasetAttributes
from dolly_assets.registry.kinds import RAW_DATASET
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.conventions import TABLE_FILE

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification prescribes."""


def croissant(raw_dataset: Artifact) -> dict[str, Any]:
    """Return the document of a raw dataset, ready for JSON.

    Raises:
        ArtifactError: The artifact is no raw dataset.
    """
    if raw_dataset.manifest.kind != RAW_DATASET.name:
        raise ArtifactError(
            f"{raw_dataset.name} is of the kind {raw_dataset.manifest.kind}: Croissant describes a "
            "raw dataset, such as raw_dataset/demo"
        )
    stated = RawDatasetAttributes.of(raw_dataset)
    name = ArtifactAddress.parse(raw_dataset.name).dataset
    terms = terms_of(stated.license)
    file = next(entry for entry in raw_dataset.manifest.files if entry.path == TABLE_FILE)
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{stated.rows:,} {stated.form} from {_origin(stated)}.",
        "license": terms.source if terms else stated.license,
        "datePublished": raw_dataset.manifest.created_at.isoformat(),
        "version": f"1.0.0+{raw_dataset.digest[:12]}",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": TABLE_FILE,
                "name": TABLE_FILE,
                "contentUrl": TABLE_FILE,
                "contentSize": f"{file.size_bytes} B",
                "encodingFormat": "application/x-parquet",
                "sha256": file.sha256,
            }
        ],
        "recordSet": [_record_set(stated)],
    }


def _origin(stated: RawDatasetAttributes) -> str:
    revision = stated.revision or f"revision {NOT_RECORDED}"
    return f"{source_name(stated.source) or f'a source that is {NOT_RECORDED}'} ({revision})"


def _record_set(stated: RawDatasetAttributes) -> dict[str, Any]:
    schema = SCHEMAS[stated.form]
    return {
        "@type": "cr:RecordSet",
        "@id": stated.form,
        "name": stated.form,
        "field": [_field(stated.form, column) for column in schema.names],
    }


def _field(record_set: str, column: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{column}",
        "name": column,
        "description": COLUMNS[column],
        "dataType": "sc:Text",
        "source": {"fileObject": {"@id": TABLE_FILE}, "extract": {"column": column}},
    }
