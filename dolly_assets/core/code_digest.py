"""The digest of this package's own code, which artifacts record.

Knows the files of the package, and no version control.
"""

import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@functools.cache
def code_digest() -> str:
    """Return the SHA-256 over the paths and contents of the package's Python files."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        content = file.read_bytes()
        digest.update(
            f"{file.relative_to(PACKAGE).as_posix()}\0{len(content)}\0".encode() + content
        )
    return digest.hexdigest()
