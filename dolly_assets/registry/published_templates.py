"""The chat template that published models carry, compared with the one that data was laid out in.

A base model records its template; checkpoints state it and carry the same bytes, so that servers
prompt a model as it was trained. Models from before there was a choice state none: they are
prompted with `dolly`.
"""

import json

from pydantic import JsonValue

from dolly_assets.core.hashing import json_digest
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.inputs import required_digest
from dolly_assets.registry.kinds import BASE_MODEL, TOKENIZED_DATASET
from dolly_assets.registry.model_folders import has_weights
from dolly_assets.storage.artifact import Artifact, ArtifactStore

TEMPLATE_FILE = "weights/chat_template.jinja"
GENERATION_FILE = "weights/generation_config.json"
_ATTRIBUTES = ("template", "template_digest")


def template_attributes(base_model: Artifact) -> dict[str, JsonValue]:
    """Return what a checkpoint states of its base model's template."""
    attributes = base_model.manifest.attributes
    return {name: attributes[name] for name in _ATTRIBUTES if name in attributes}


def template_problems(store: ArtifactStore, published: Artifact) -> list[str]:
    """Return in what a published model is prompted otherwise than its data was laid out.

    Args:
        store: Where both are.
        published: A base model or a checkpoint.
    """
    base_model = published if _is_base(published) else _base_of(store, published)
    stated = template_attributes(base_model)
    if not stated.get("template_digest"):
        return []
    found = []
    if template_attributes(published) != stated:
        found.append(f"its manifest states another template than {base_model.name}: {stated}")
    if not has_weights(published):
        return found  # an adapter: its base model's folder is what answers
    if not published.holds(TEMPLATE_FILE):
        found.append(f"{TEMPLATE_FILE} is missing, without which servers cannot prompt it")
    elif _digest(published) != stated["template_digest"]:
        found.append(f"{TEMPLATE_FILE} is another template than that of {base_model.name}")
    missing = _stops(base_model) - _stops(published)
    if missing or not _stops(published):
        found.append(f"{GENERATION_FILE} lacks the stop tokens {sorted(missing)}")
    return found


def _is_base(artifact: Artifact) -> bool:
    return ArtifactAddress.parse(artifact.name).asset == BASE_MODEL.name


def _base_of(store: ArtifactStore, checkpoint: Artifact) -> Artifact:
    """Return the base model whose tokenizer and template made the ids of a checkpoint's data."""
    at = ArtifactAddress.parse(checkpoint.name)
    tokenized = store.get(
        TOKENIZED_DATASET.address(at.family, at.dataset).name,
        required_digest(checkpoint, TOKENIZED_DATASET),
    )
    return store.get(BASE_MODEL.address(at.family).name, required_digest(tokenized, BASE_MODEL))


def _digest(artifact: Artifact) -> str:
    """Return the digest of the template that an artifact carries, as attributes state it."""
    return json_digest(artifact.read_bytes(TEMPLATE_FILE).decode())


def _stops(artifact: Artifact) -> set[int]:
    """Return the ids of the tokens at which servers stop."""
    if not artifact.holds(GENERATION_FILE):
        return set()
    ends = json.loads(artifact.read_bytes(GENERATION_FILE)).get("eos_token_id")
    return {ends} if isinstance(ends, int) else set(ends or ())
