"""`make image-pins`: writes the digest of each image of others behind its tag, in all of deploy/.

A tag can be moved to another image; a digest names one. Digests are asked of the registries, over
their HTTP API (https://distribution.github.io/distribution/spec/api/), with no account. Our own
images are not pinned: they are built here.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from dolly_assets.core.errors import ConfigurationError, DollyError

DEPLOY = Path(__file__).parent
OWN = "registry.example.com/"
TIMEOUT_SECONDS = 60
# The digest of an index is that of the image on every architecture.
INDEXES_FIRST = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_NAME = r"(?P<name>[a-z0-9][\w./:-]*?)"
_TAG = r"(?P<tag>\w[\w.-]*)(?P<digest>@sha256:[0-9a-f]{64})?"
PLACES = (
    re.compile(rf"^ARG \w+_IMAGE={_NAME}:{_TAG}$", re.MULTILINE),
    re.compile(rf"^\s*image: {_NAME}:{_TAG}$", re.MULTILINE),
    re.compile(rf"repository: {_NAME}\n\s*tag: \"?{_TAG}\"?", re.MULTILINE),
)


class Image(NamedTuple):
    """An image of others, as a file names it.

    Attributes:
        file: The file.
        name: Registry and repository.
        tag: Its tag.
        digest: `@sha256:…`, or empty.
        end: Where the tag ends in the file's text, and where the digest ends.
    """

    file: Path
    name: str
    tag: str
    digest: str
    end: tuple[int, int]


def images(folder: Path = DEPLOY) -> Iterator[Image]:
    """Yield every image of others that a file of a folder names."""
    for file in sorted(folder.rglob("*")):
        if file.suffix not in (".yaml", ".Dockerfile"):
            continue
        text = file.read_text()
        for found in (found for place in PLACES for found in place.finditer(text)):
            if not found["name"].startswith(OWN):
                ends = found.end("tag"), found.end("digest" if found["digest"] else "tag")
                yield Image(file, found["name"], found["tag"], found["digest"] or "", ends)


def pin(folder: Path, digest_of: Callable[[str, str], str]) -> list[str]:
    """Write the digest of each image behind its tag, and return what was pinned.

    Args:
        folder: The folder of the files.
        digest_of: Returns the digest of a name and a tag.
    """
    pinned, found = [], list(images(folder))
    digests = {(image.name, image.tag): "" for image in found}
    for name, tag in digests:
        digests[name, tag] = digest_of(name, tag)
        pinned.append(f"{name}:{tag}@{digests[name, tag]}")
    for image in sorted(found, key=lambda image: image.end, reverse=True):  # positions stay right
        text, (start, end) = image.file.read_text(), image.end
        digest = digests[image.name, image.tag]
        image.file.write_text(f"{text[:start]}@{digest}{text[end:]}")
    return pinned


def registry_digest(name: str, tag: str) -> str:
    """Return the digest that a registry has for a tag.

    Raises:
        ConfigurationError: The registry does not answer, or has no such image.
    """
    host, _, repository = name.partition("/")
    if not repository or not re.search(r"[.:]|^localhost$", host):
        host, repository = "docker.io", name
    if host == "docker.io":
        host = "registry-1.docker.io"
        repository = repository if "/" in repository else f"library/{repository}"
    is_here = re.match(r"(localhost|127\.)", host)  # as in Docker, the only registries without TLS
    url = f"{'http' if is_here else 'https'}://{host}/v2/{repository}/manifests/{tag}"
    headers = {"Accept": ", ".join(INDEXES_FIRST)}
    try:
        try:
            answer = urlopen(Request(url, None, headers, method="HEAD"), timeout=TIMEOUT_SECONDS)
        except HTTPError as error:
            if error.code != 401:
                raise
            headers["Authorization"] = f"Bearer {_token(error.headers['WWW-Authenticate'] or '')}"
            answer = urlopen(Request(url, None, headers, method="HEAD"), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        raise ConfigurationError(
            f"{url}: the registry answered {error.code}: check the image's name and tag"
        ) from error
    except URLError as error:
        raise ConfigurationError(
            f"{url}: the registry cannot be reached: {error.reason}; run it where it can"
        ) from error
    digest = answer.headers["Docker-Content-Digest"] or ""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ConfigurationError(f"{url}: the registry sent no digest: expected sha256:…")
    return digest


def _token(challenge: str) -> str:
    """Return the token that a registry gives to everybody, where its challenge says."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", "")
    with urlopen(f"{realm}?{urlencode(fields)}", timeout=TIMEOUT_SECONDS) as answer:
        return json.load(answer)["token"]


def main() -> int:
    """Pin all images; return 1 if that fails, with nothing changed."""
    try:
        print("\n".join(pin(DEPLOY, registry_digest)))
    except DollyError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
