"""SHA-256 of JSON values: names for what was trained, checked or requested with the same settings.

Two writings of JSON are in use. Digests of either kind are stored, in artifacts and in the names of
Jobs, so neither may change: a digest that differs would train or check again what is in the store.
"""

import hashlib
import json
from typing import Any


def json_digest(value: Any) -> str:
    """Return the SHA-256, in hexadecimal digits, of a value as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def canonical_json_digest(value: Any) -> str:
    """Return the SHA-256 of a value as canonical JSON: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()
