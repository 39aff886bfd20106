"""The papers by format: the file that each is kept in, and what writes it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from dolly_assets.core.errors import ArtifactError
from dolly_assets.papers.croissant import croissant
from dolly_assets.papers.data_summary import data_summary
from dolly_assets.papers.licensing import LICENSES_FILE, licenses_markdown
from dolly_assets.papers.ml_bom import ml_bom
from dolly_assets.papers.model_card import model_card
from dolly_assets.papers.record import ModelRecord
from dolly_assets.registry.kinds import RAW_DATASET
from dolly_assets.storage.artifact import Artifact, ArtifactStore

Format = Literal["model-card", "data-summary", "ml-bom", "croissant", "licenses"]


class Paper(NamedTuple):
    """A document of a model.

    Attributes:
        file: The name that it has in a folder.
        write: Returns its text.
    """

    file: str
    write: Callable[[ModelRecord], str]


def _json(document: object) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _licenses(record: ModelRecord) -> str:
    return licenses_markdown(record.facts["licenses"], record.facts["obligations"])


def _croissant(record: ModelRecord) -> str:
    if record.raw_dataset is None:
        raise ArtifactError(f"{record.model.name}: the store no longer has its raw dataset")
    return _json(croissant(record.raw_dataset))


PAPERS: dict[Format, Paper] = {
    "model-card": Paper("README.md", model_card),
    "data-summary": Paper("training-data.md", data_summary),
    "ml-bom": Paper("ml-bom.cdx.json", lambda record: _json(ml_bom(record))),
    "croissant": Paper("croissant.json", _croissant),
    "licenses": Paper(LICENSES_FILE, _licenses),
}


def paper(store: ArtifactStore, artifact: Artifact, format_: Format | None = None) -> str:
    """Return a document of an artifact: of a raw dataset Croissant, of a model the card.

    Raises:
        ArtifactError: The artifact is neither, or has no document of this format.
    """
    if artifact.manifest.kind == RAW_DATASET.name and format_ in (None, "croissant"):
        return _json(croissant(artifact))
    return PAPERS[format_ or "model-card"].write(ModelRecord(store, artifact))


def write_papers(record: ModelRecord, folder: Path) -> list[Path]:
    """Write every document of a model into a folder; what is there is overwritten.

    Raises:
        ArtifactError: The disk fails.
    """
    return [
        write_text(folder / each.file, each.write(record))
        for name, each in PAPERS.items()
        if name != "croissant" or record.raw_dataset
    ]


def write_text(file: Path, text: str) -> Path:
    """Write a document.

    Raises:
        ArtifactError: The disk fails.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"cannot write {file}: {error.strerror}") from error
    return file
