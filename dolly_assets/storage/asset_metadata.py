"""An artifact as the metadata of a Dagster asset: what people read first, hashes last."""

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from dolly_assets.core.markdown import without_links
from dolly_assets.core.text import dollars, duration, energy, file_size
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.conventions import PICTURE_FILE

_HASH = re.compile(r"[0-9a-f]{12,64}")
_MARKDOWN = "_markdown"
# Units at the end of an attribute's name: how the number reads, and what its name is then. The
# number itself is kept for Dagster's plots.
_UNITS: dict[str, tuple[str, Callable[[float], str]]] = {
    "_bytes": ("", file_size),
    "duration_seconds": ("duration", duration),
    "_seconds": ("_time", duration),
    "_joules": ("", energy),
    "_usd": ("", dollars),
}


def artifact_metadata(artifact: Artifact) -> dict[str, Any]:
    """Return the metadata of an artifact for Dagster.

    Sentences come first, then the picture, tables, numbers and lists, and at the end what
    identifies the content. An attribute whose name ends in `_markdown` is shown as Markdown, one
    that ends in `_at` (seconds since the Unix epoch) as a time, and a fraction with six significant
    digits; a number with a unit is also shown as text. What is null or empty is left out, and so is
    a text that another attribute's text contains.
    """
    attributes = {
        name: value
        for name, value in artifact.manifest.attributes.items()
        if value not in (None, "", [])
    }
    sent = artifact.manifest.sent_bytes  # the store already had the rest
    if sent is not None:
        attributes["sent_bytes"] = sent
    shown: list[tuple[int, str, Any]] = []
    if artifact.holds(PICTURE_FILE):
        png = base64.b64encode(artifact.read_bytes(PICTURE_FILE)).decode()
        picture = dg.MetadataValue.md(f"![picture](data:image/png;base64,{png})")
        shown.append((_PICTURE, "picture", picture))
    for name, value in attributes.items():
        if not _is_repeated(name, value, attributes):
            shown.extend(_entries(name, value))
    return {
        **{name: value for _, name, value in sorted(shown, key=lambda entry: entry[0])},
        "size": file_size(artifact.size_bytes),
        "size_bytes": artifact.size_bytes,
        "files": len(artifact.manifest.files),
        "dagster/uri": artifact.uri,
        "digest": artifact.digest,
    }


_SENTENCE, _PICTURE, _TABLE, _FIGURE, _LIST, _IDENTITY = range(6)


def _entries(name: str, value: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield an attribute as it is shown: its place, its name, its value."""
    if name.endswith(_MARKDOWN):
        text = dg.MetadataValue.md(without_links(str(value)))
        yield _TABLE, name.removesuffix(_MARKDOWN), text
    elif isinstance(value, bool):
        yield _FIGURE, name, value
    elif isinstance(value, (int, float)):
        yield from _number(name, value)
    elif isinstance(value, str):
        yield _place_of_text(name, value), name, value
    else:
        yield _LIST, name, value


def _number(name: str, value: float) -> Iterator[tuple[int, str, Any]]:
    if name.endswith("_at"):
        yield _FIGURE, name, dg.MetadataValue.timestamp(float(value))
        return
    for suffix, (ending, readable) in _UNITS.items():
        if name.endswith(suffix):
            yield _FIGURE, name.removesuffix(suffix) + ending, readable(value)
            break
    yield _FIGURE, name, float(f"{value:.6g}") if isinstance(value, float) else value


def _place_of_text(name: str, text: str) -> int:
    if _HASH.fullmatch(text):
        return _IDENTITY
    return _SENTENCE if " " in text or name == "verdict" else _FIGURE


def _is_repeated(name: str, value: Any, attributes: dict[str, Any]) -> bool:
    """Whether a text stands as a part of a longer attribute."""
    return isinstance(value, str) and any(
        isinstance(other, str) and value != other and " " in value and value in other
        for key, other in attributes.items()
        if key != name
    )
