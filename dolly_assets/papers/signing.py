"""Signatures of artifacts by a key: OpenSSF's format, which `model_signing` checks as well.

What is signed is the artifact's tree, and beside it `manifest.json`, which states name, inputs and
attributes: whoever changes a score or adds a file has no signature for it. Signatures lie in the
store under the artifact's digest. Knows one kind of key, elliptic curves in PEM files.
"""

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dolly_assets.core.errors import ArtifactError, ConfigurationError, some_of
from dolly_assets.core.text import flat, one_line
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.object_store import ObjectStore

STATEMENT_FILE, SIGNATURE_FILE = "manifest.json", "model.sig"
SIGNATURES = "signatures"
_STATED = {"name", "kind", "inputs", "attributes", "made_by"}
_DIFFERENCES = {
    "changed:": r"Hash mismatch for \\?'(.+?)\\?':",
    "added:": r"Extra files found in model \\?'.*?\\?': (.+?)(?:['\"],|['\"]\])",
    "missing:": r"Missing files in model \\?'.*?\\?': (.+?)(?:['\"],|['\"]\])",
}
"""How `model_signing` says what differs."""
_KEYS = "expected a PEM file with a key of the curve P-256, P-384 or P-521"


def statement(artifact: Artifact) -> bytes:
    """Return what a manifest states, but for the time: publishing it again changes nothing."""
    manifest = artifact.manifest
    files = [
        entry.model_dump(mode="json", exclude={"chunk_bytes", "chunks"}) for entry in manifest.files
    ]
    stated = manifest.model_dump(mode="json", include=_STATED)
    text = json.dumps({**stated, "digest": artifact.digest, "files": files}, indent=1)
    return f"{text}\n".encode()


def sign(objects: ObjectStore, artifact: Artifact, key: Path) -> str:
    """Sign an artifact, and keep the signature in the store in place of an earlier one.

    Args:
        objects: The objects of the artifact's store.
        artifact: What to sign; every byte of it is read.
        key: The private key.

    Returns:
        The URL of the signature.

    Raises:
        ConfigurationError: The key cannot be used, or the extra `signing` is not installed.
        ArtifactError: A file is damaged or no longer there.
    """
    signing = _library("signing")
    config = _with_key(key, lambda: signing.Config().use_elliptic_key_signer(private_key=key))
    with tempfile.TemporaryDirectory() as folder:
        signature = Path(folder) / SIGNATURE_FILE
        config.set_hashing_config(_hashing()).sign(_tree(artifact, Path(folder)), signature)
        content = signature.read_bytes()
    objects.write(_key_of(artifact), content)
    return objects.url_of(_key_of(artifact))


def find_signature(objects: ObjectStore, artifact: Artifact) -> bytes:
    """Return the signature of an artifact.

    Raises:
        ArtifactError: It is not signed.
    """
    found = objects.find(_key_of(artifact))
    if found is None:
        raise ArtifactError(
            f"{artifact.name} with digest {artifact.digest[:12]} is not signed: run dolly sign "
            f"{artifact.name} --key KEY"
        )
    return found


def verify_signature(objects: ObjectStore, artifact: Artifact, public_key: Path) -> None:
    """Check that an artifact is what the owner of a key has signed; every byte is read.

    Raises:
        ArtifactError: It is not signed, signed by another key, or differs from what was signed.
        ConfigurationError: The key cannot be used, or the extra `signing` is not installed.
    """
    content, verifying = find_signature(objects, artifact), _library("verifying")
    config = _with_key(
        public_key, lambda: verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    )
    with tempfile.TemporaryDirectory() as folder:
        signature = Path(folder) / SIGNATURE_FILE
        signature.write_bytes(content)
        tree = _tree(artifact, Path(folder))
        try:
            config.set_hashing_config(_hashing()).verify(tree, signature)
        except Exception as error:  # every library below has errors of its own
            raise ArtifactError(
                f"{artifact.name}: its signature does not hold for {public_key}: {_why(error)}"
            ) from error


def write_signature(objects: ObjectStore, artifact: Artifact, folder: Path) -> None:
    """Write the signature and what it covers besides the files into a fetched folder."""
    content = find_signature(objects, artifact)
    (folder / STATEMENT_FILE).write_bytes(statement(artifact))
    (folder / SIGNATURE_FILE).write_bytes(content)


def _key_of(artifact: Artifact) -> str:
    return f"{SIGNATURES}/{artifact.name}/{artifact.digest}.sig"


def _tree(artifact: Artifact, folder: Path) -> Path:
    """Return a folder with what is signed: links to the verified files, and the statement."""
    tree, files = folder / artifact.name.replace("/", "-"), artifact.fetch()
    tree.mkdir()
    for entry in artifact.manifest.files:
        if entry.path == STATEMENT_FILE:
            raise ArtifactError(
                f"{artifact.name} has a file {STATEMENT_FILE}, the name of what is signed beside "
                "the files: rename it"
            )
        (tree / entry.path).parent.mkdir(parents=True, exist_ok=True)
        (tree / entry.path).symlink_to(files / entry.path)
    (tree / STATEMENT_FILE).write_bytes(statement(artifact))
    return tree


def _hashing() -> Any:
    config = _library("hashing").Config().set_allow_symlinks(True)
    return config.set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)


def _library(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"model_signing.{module}")
    except ImportError as error:
        raise ConfigurationError(
            f"signatures need a package that is not installed ({error.name}): pip install "
            "'dolly_assets[signing]'"
        ) from error


def _with_key(key: Path, use: Callable[[], Any]) -> Any:
    """Return a configuration with a key.

    Raises:
        ConfigurationError: It cannot be read, is of another kind, or is encrypted.
    """
    try:
        return use()
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{key} cannot be used: {one_line(error)}: {_KEYS}") from error


def _why(error: Exception) -> str:
    """Return which files differ, without the hashes that the library prints as bytes."""
    text = str(error)
    found = [
        f"{what} {names}"
        for what, pattern in _DIFFERENCES.items()
        for names in re.findall(pattern, text)
    ]
    return some_of(found) if found else flat(text, 200) or "it was made with another key"
