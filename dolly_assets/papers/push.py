"""A model as a repository on the Hub: its weights, its template, its card and its licences.

What must not be made public is refused before anything is sent.
"""

import tempfile
from pathlib import Path

from dolly_assets.core.errors import LicenseError
from dolly_assets.exporting import ExportedModel
from dolly_assets.papers.documents import write_papers
from dolly_assets.papers.hub import HubRepository, Pushed
from dolly_assets.papers.licensing import why_not_public
from dolly_assets.papers.record import ModelRecord
from dolly_assets.registry.model_folders import fetch
from dolly_assets.storage.artifact import Artifact, ArtifactStore


def check_publishable(store: ArtifactStore, model: Artifact) -> str | None:
    """Return what someone should agree to before a model is made public; None if nothing.

    Raises:
        LicenseError: A licence forbids it, or is unknown.
        ArtifactError: The artifact is no model.
    """
    facts = ModelRecord(store, model).facts
    if reasons := why_not_public(facts):
        raise LicenseError(
            f"{model.name} must not be made public: {'; '.join(reasons)}: push it without "
            "--public, or state a licence that allows it"
        )
    if facts["commercial_use"] == "not allowed":
        return f"{model.name} may not be used commercially: {'; '.join(facts['obligations'])}"
    return None


def push(
    store: ArtifactStore,
    model: Artifact,
    repository: HubRepository,
    *,
    is_public: bool,
    may_overwrite: bool,
) -> Pushed:
    """Make a repository hold a model with its documents, unless it does already.

    Args:
        store: Where the model is.
        model: A checkpoint, or a model in a stage. Of an adapter, the merged weights are sent.
        repository: Where to.
        is_public: Whether a repository that is created now is public.
        may_overwrite: Whether to replace what others have written.

    Raises:
        LicenseError: It must not be made public.
        HubError: The Hub refuses, or cannot be reached.
        ArtifactError: The store lacks the weights.
    """
    if is_public:
        check_publishable(store, model)
    record = ModelRecord(store, model, is_merged=True)
    held = repository.held(may_overwrite=may_overwrite)
    if held == model.digest:
        return Pushed(repository.url, sent=False)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        _write_weights(store, model, folder)
        write_papers(record, folder)
        repository.write(
            folder,
            title=f"{model.name} {model.digest}",
            is_new=held is None,
            is_public=is_public,
        )
    return Pushed(repository.url, sent=True)


def _write_weights(store: ArtifactStore, model: Artifact, folder: Path) -> None:
    """Write whole weights with tokenizer and template, an adapter merged in."""
    from dolly_assets.exporting.huggingface import write_folder

    weights, adapter, template = fetch(store, model)
    write_folder(ExportedModel(weights, adapter, template), folder)
