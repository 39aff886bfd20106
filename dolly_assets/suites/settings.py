"""What a family's YAML declares of its suites. It opens no file but those that the YAML names."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, JsonValue

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.suites.records import ScorerName, read_suite
from dolly_assets.suites.task_files import digest_of_files, is_file, task_files

GENERAL = "general"
RECORDS_FILE = "records.jsonl"  # in the store
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
    lm_eval: SuiteFile | str | None = Field(
        default=None,
        description="In place of a file, a task of lm-evaluation-harness: its name, or its YAML "
        "file.",
    )
    scorer: ScorerName = Field(
        default="exact", description="How records are scored that name no scorer of their own."
    )
    chat_template: bool | None = Field(
        default=None,
        description="Whether prompts are laid out in the chat template, which is the default of "
        "records of one's own; false gives the model the text as it is.",
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
        if self.lm_eval is not None:
            return self._task(name, folder)
        if self.file is None:
            raise ConfigurationError(
                f"evaluation.suites.{name}: there is no file: name a JSONL file of records, such "
                f"as ./{name}.jsonl, or a task with lm_eval; {GENERAL} alone is bundled"
            )
        path = Path(self.file.path if isinstance(self.file, SuiteFile) else self.file)
        return self._with_file((folder / path.expanduser()).resolve())

    @property
    def source(self) -> SuiteFile | None:
        """The file of a resolved suite; None of a task that lm-eval bundles."""
        found = self.file or self.lm_eval
        return found if isinstance(found, SuiteFile) else None

    @property
    def uses_chat_template(self) -> bool:
        """Whether prompts are laid out in the chat template."""
        return self.lm_eval is None if self.chat_template is None else self.chat_template

    def files(self) -> dict[str, Path]:
        """Return the files of a resolved suite that workers need, by their paths in the store.

        Raises:
            ConfigurationError: One has changed since the YAML was read.
        """
        if self.source is None:
            return {}
        file = Path(self.source.path)
        files = task_files(file) if self.lm_eval else {RECORDS_FILE: file}
        found = digest_of_files(files) if self.lm_eval else read_suite(file, self.scorer).sha256
        if found != self.source.sha256:
            raise ConfigurationError(
                f"{file}: the suite has changed since the YAML was read: reload the code location, "
                "or run the command again"
            )
        return files

    def decisive(self) -> list[JsonValue]:
        """Return what determines the scores of a resolved suite, wherever its file is."""
        name = self.lm_eval if isinstance(self.lm_eval, str) else None
        stated = self.model_dump(mode="json", exclude={"file", "lm_eval"}, exclude_defaults=True)
        return [self.source.sha256 if self.source else name, stated]

    def _general(self) -> Self:
        if self.file is not None or self.model_fields_set - {"limit", "file"}:
            raise ConfigurationError(
                f"evaluation.suites.{GENERAL}: the suite {GENERAL} is bundled and has no settings "
                "but limit: write `general: {}`, or give a suite of your own another name"
            )
        return self.model_copy(update={"chat_template": False})._with_file(GENERAL_FILE)

    def _task(self, name: str, folder: Path) -> Self:
        allowed = {"lm_eval", "limit", "chat_template"}
        if extra := sorted(self.model_fields_set - allowed):
            raise ConfigurationError(
                f"evaluation.suites.{name}: {extra[0]} does not belong to a task of lm-eval, which "
                f"states it itself: expected {', '.join(sorted(allowed))}"
            )
        named = self.lm_eval.path if isinstance(self.lm_eval, SuiteFile) else str(self.lm_eval)
        if not is_file(named):
            return self
        path = (folder / Path(named).expanduser()).resolve()
        digest = digest_of_files(task_files(path))
        return self.model_copy(update={"lm_eval": SuiteFile(path=str(path), sha256=digest)})

    def _with_file(self, path: Path) -> Self:
        sha256 = read_suite(path, self.scorer).sha256
        return self.model_copy(update={"file": SuiteFile(path=str(path), sha256=sha256)})
