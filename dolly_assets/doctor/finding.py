"""What a check has found: one line each."""

from typing import Literal, NamedTuple


class CheckResult(NamedTuple):
    """`unknown` is what could not be looked at; the text says why, and of what is missing, what to do."""

    state: Literal["ok", "MISSING", "unknown"]
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.state:<8} {self.what}: {self.text}"
