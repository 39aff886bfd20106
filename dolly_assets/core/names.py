"""Names that users type: which names of datasets and families, and which epochs, are allowed."""

import re

from dolly_assets.core.errors import ConfigurationError, DatasetError

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_FAMILY_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,62}")
# Assets that belong to no family begin their names with these.
_NO_FAMILY_NAMES = ("raw_dataset",)
_EPOCHS = re.compile(r"([0-9]{1,2})(?:-([0-9]{1,2}))?")


def check_dataset_name(name: str) -> str:
    """Return the name if it can be a partition key and, everywhere, a folder's name.

    Raises:
        DatasetError: It cannot.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise DatasetError(
            f"dataset name {name!r} is not allowed: use 1 to 63 of a-z, 0-9, '_', '-', '.', "
            "beginning with a letter or digit and without '..'"
        )
    return name


def check_family_name(name: str) -> str:
    """Return the name if it can begin an asset's key and name an op in Dagster.

    Raises:
        ConfigurationError: It cannot.
    """
    if name in _NO_FAMILY_NAMES:
        raise ConfigurationError(
            f"the folder's name {name!r} cannot name a model family: an asset has this name; "
            "rename the folder"
        )
    if not _FAMILY_NAME.fullmatch(name):
        raise ConfigurationError(
            f"the folder's name {name!r} cannot name a model family: use 1 to 63 of a-z, 0-9 and "
            "'_', beginning with a letter or digit"
        )
    return name


def epoch_key(epoch: int) -> str:
    """Return the partition key of an epoch: two digits, `00` being the untrained base model."""
    return f"{epoch:02d}"


def parse_epochs(text: str, last: int) -> range:
    """Parse `3` or `1-3` as a range of epochs within 0…last.

    Raises:
        ConfigurationError: It is not a range, runs backwards, or goes past the last epoch.
    """
    match = _EPOCHS.fullmatch(text.strip())
    if not match:
        raise ConfigurationError(f"epochs {text!r}: expected a number or a range, such as 3 or 1-3")
    first = int(match[1])
    final = int(match[2] or match[1])
    if final < first:
        raise ConfigurationError(f"epochs {text!r} run backwards: write {final}-{first}")
    if final > last:
        raise ConfigurationError(
            f"epochs {text!r}: this model family has epochs 0 to {last}; raise recipe.epochs in "
            "its YAML for more"
        )
    return range(first, final + 1)
