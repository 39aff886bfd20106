"""Why YAML does not load, on one line: the file, line and key of each problem, and what was found.

Knows what Dagster attaches to a validation error while it reads a component's YAML, and nothing of
components themselves.
"""

from dagster_shared.yaml_utils.source_position import SourcePosition
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dolly_assets.core.errors import DollyError
from dolly_assets.core.text import one_line


def explain(error: BaseException) -> str:
    """Return the innermost explanation of why components do not load."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ValidationError):
            return "; ".join(_problem(details) for details in cause.errors(include_url=False))
        if isinstance(cause, DollyError):
            return one_line(cause)
        cause = cause.__cause__
    return one_line(error)


def _problem(details: ErrorDetails) -> str:
    where = _where(details)
    what = " ".join(details["msg"].removeprefix("Value error, ").split())
    # A validator of ours states what it found; a whole section would fill the line.
    is_stated = details["type"] == "value_error" or isinstance(details["input"], (dict, list))
    found = "" if is_stated else f", found {details['input']!r}"
    return f"{where}: {what}{found}" if where else what + found


def _where(details: ErrorDetails) -> str:
    """Return `file:line: key`; Dagster puts both into the location, and the position aside."""
    key = ".".join(str(part) for part in details["loc"])
    position = details.get("ctx", {}).get("source_position")
    if not isinstance(position, SourcePosition):
        return key
    return f"{position}: {key.removesuffix(f' at {position}')}".removesuffix(": ")
