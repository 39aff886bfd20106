"""The result of one check, on one line."""

from typing import Literal, NamedTuple


class CheckResult(NamedTuple):
    """The result of one check.

    Attributes:
        state: `warning` if training does not need what is wrong, `unknown` if the check was not
            possible.
        what: What was checked.
        text: What was found; if something is wrong, also the remedy, and if it is unknown, the
            reason.
    """

    state: Literal["ok", "MISSING", "warning", "unknown"]
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.state:<8} {self.what}: {self.text}"
