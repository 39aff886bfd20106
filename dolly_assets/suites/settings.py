"""What a family's YAML declares of its suites. It opens no file but those that the YAML names."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, JsonValue

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.suites.records import ScorerName, read_suite

GENERAL = "general"
GENERAL_FILE = Path(__file__).with_name("general.jsonl")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def _checked_name(name: str) -> str:
    """Return a suite's name if it can name a file, an artifact and a column."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name a suite: use 1 to 32 of a-z, 0-9, '_' and '-', beginning with a "
            "letter"
        )
    return name


SuiteName = Annotated[str, AfterValidator(_checked_name)]


class SuiteFile(Config):
    """A file of records, as it was when the YAML was read."""

    path: str = Field(description="Where it is on the machine that read the YAML.")
    sha256: str = Field(description="SHA-256 of its content.")


class Suite(Config):
    """Records with prompts and what is expected of the answers."""

    file: SuiteFile | str | None = Field(
        default=None,
        description="A JSONL file of records; relative paths count from the YAML's folder. Left "
        "out by the suite `general`, which is bundled.",
    )
    scorer: ScorerName = Field(
        default="exact", description="How records are scored that name no scorer of their own."
    )
    chat_template: bool = Field(
        default=True,
        description="Whether prompts are laid out in the chat template; false gives the model the "
        "text as it is.",
    )
    length_normalized: bool = Field(
        default=False,
        description="Whether choices are compared by log-likelihood per character.",
    )
    max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Length of the longest answer; evaluation.max_new_tokens if left out.",
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        description="Number of records to score, the first ones; all by default.",
    )

    def resolved(self, name: str, folder: Path) -> Self:
        """Return the suite with its file read and found right.

        Args:
            name: The suite's name.
            folder: What relative paths count from.

        Raises:
            ConfigurationError: The file cannot be read, or a record is wrong; the text names the
                line.
        """
        if name == GENERAL:
            return self._general()
        if self.file is None:
            raise ConfigurationError(
                f"evaluation.suites.{name}: there is no file: name a JSONL file of records, such "
                f"as ./{name}.jsonl; {GENERAL} is the only suite that is bundled"
            )
        path = Path(self.file.path if isinstance(self.file, SuiteFile) else self.file)
        return self._with_file((folder / path.expanduser()).resolve())

    @property
    def source(self) -> SuiteFile:
        """The file of a resolved suite."""
        assert isinstance(self.file, SuiteFile)
        return self.file

    def decisive(self) -> list[JsonValue]:
        """Return what determines the scores of a resolved suite, wherever its file is."""
        return [
            self.source.sha256,
            self.model_dump(mode="json", exclude={"file"}, exclude_defaults=True),
        ]

    def _general(self) -> Self:
        if self.file is not None or self.model_fields_set - {"limit", "file"}:
            raise ConfigurationError(
                f"evaluation.suites.{GENERAL}: the suite {GENERAL} is bundled and has no settings "
                "but limit: write `general: {}`, or give a suite of your own another name"
            )
        return self.model_copy(update={"chat_template": False})._with_file(GENERAL_FILE)

    def _with_file(self, path: Path) -> Self:
        sha256 = read_suite(path, self.scorer).sha256
        return self.model_copy(update={"file": SuiteFile(path=str(path), sha256=sha256)})
