"""The errors a user or a caller can act on.

Each message says what was found, where (file, line or key), what was expected and what to do. The
command line prints it on one line and exits with code 2; Dagster shows it as the reason of a failed
step.
"""

from collections.abc import Sequence


class DollyError(Exception):
    """Something the user can put right. Subclasses name what."""


class ConfigurationError(DollyError):
    """A YAML file, an environment variable or an option is wrong."""


class DatasetError(DollyError):
    """A dataset's name, source or content is wrong."""


class QualityError(DollyError):
    """A check of a dataset stops its training."""


class LicenseError(DollyError):
    """A licence forbids the use that a model family is for, or is not known."""


class BaseModelError(DollyError):
    """A base model cannot be found or is not a causal language model."""


class ArtifactError(DollyError):
    """An artifact is missing from the store, or differs from its manifest."""


class TrainingError(DollyError):
    """A training cannot start or continue as asked."""


class WorkerError(DollyError):
    """A worker process ended with an error."""


class ProfileError(DollyError):
    """A profile or its report is missing or cannot be read."""


class TrainingStopped(DollyError):  # noqa: N818 nothing is wrong
    """A training was asked to stop, and has saved where it is."""

    def __init__(self, epoch: int, step: int, steps: int) -> None:
        super().__init__(f"stopped at epoch {epoch}, step {step} of {steps}; run again to go on")


class WorkerStopped(DollyError):  # noqa: N818 nothing is wrong
    """A worker was asked to stop and did; the same again goes on from where it was."""


def some_of(items: Sequence[str], limit: int = 5) -> str:
    """The first few of a list, for a message's one line."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more if items else "none"
