"""Which file of an artifact is a page for browsers.

It knows names and kinds, and neither what is on a page nor how it is served.
"""

from contextlib import suppress

from dolly_assets.core.errors import ArtifactError
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.kinds import KINDS, AssetKind
from dolly_assets.storage.artifact import Artifact


def page_of_name(name: str) -> str:
    """Return the file that is the page of artifacts of a name; empty if they have none."""
    kind = _kind_of_name(name)
    return kind.page if kind else ""


def page_of(artifact: Artifact) -> str:
    """Return the file of an artifact that is its page.

    Empty if it has none, or if the artifact is not of the kind that its name stands for.
    """
    kind = KINDS.get(artifact.manifest.kind)
    is_ours = kind is not None and kind is _kind_of_name(artifact.name)
    return kind.page if kind and is_ours and artifact.holds(kind.page) else ""


def _kind_of_name(name: str) -> AssetKind | None:
    with suppress(ArtifactError):
        return KINDS.get(ArtifactAddress.parse(name).asset)
    return None
