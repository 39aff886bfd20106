"""The result of one check, on one line."""

from typing import Literal, NamedTuple


class CheckResult(NamedTuple):
    """The result of one check.

    Attributes:
        state: `unknown` if the check was not possible.
        what: What was checked.
        text: What was found; if it is missing, also the remedy, and if it is unknown, the reason.
    """

    state: Literal["ok", "MISSING", "unknown"]
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.state:<8} {self.what}: {self.text}"
