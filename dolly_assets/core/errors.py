"""The errors a user or a caller can act on.

Each message states what was found, where (file, line or key), what was expected and what to do.
The command line prints it on one line and exits with code 2; Dagster shows it as the reason of a
failed step.
"""

from collections.abc import Sequence


class DollyError(Exception):
    """A problem that the user can fix; subclasses name the kind."""


class ConfigurationError(DollyError):
    """A YAML file, an environment variable or an option is wrong."""


class DatasetError(DollyError):
    """A dataset's name, source or content is wrong."""


class QualityError(DollyError):
    """A quality check of a dataset forbids training on it."""


class LicenseError(DollyError):
    """A licence forbids the use of a model family, or is unknown."""


class TemplateError(DollyError):
    """A chat template fails, or cannot be trained with."""


class BaseModelError(DollyError):
    """A base model cannot be loaded, or is not a causal language model."""


class ArtifactError(DollyError):
    """An artifact is missing from the store, or differs from its manifest."""


class TrainingError(DollyError):
    """A training cannot start or resume as requested."""


class ExportError(DollyError):
    """An export cannot be written, or does not answer as its model does."""


class WorkerError(DollyError):
    """A worker process failed."""


class JudgeError(DollyError):
    """A judge does not answer, or not as expected."""


class HubError(DollyError):
    """The Hub refuses a repository, or cannot be reached."""


class ProfileError(DollyError):
    """A profile or its report is missing or cannot be read."""


class TrainingStopped(DollyError):  # noqa: N818 nothing is wrong
    """A training was asked to stop, and has saved its state."""

    def __init__(self, epoch: int, step: int, steps: int) -> None:
        super().__init__(f"stopped at epoch {epoch}, step {step} of {steps}; run again to resume")


class WorkerStopped(DollyError):  # noqa: N818 nothing is wrong
    """A worker was asked to stop and did; the next run resumes where it stopped."""


def some_of(items: Sequence[str], limit: int = 5) -> str:
    """Return the first few items of a list and the number of the rest, for a message's one line."""
    more = f" and {len(items) - limit:,} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more if items else "none"
