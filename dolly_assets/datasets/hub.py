"""Reads datasets of the Hugging Face Hub, and explains what goes wrong there.

Knows the Hub's client and `datasets`, which are imported when they are used.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from dolly_assets.core.errors import DatasetError
from dolly_assets.core.urls import without_secrets
from dolly_assets.datasets.canonical import from_table
from dolly_assets.datasets.schema import CanonicalTable, shown_names

if TYPE_CHECKING:
    from datasets import Dataset
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import DatasetInfo

TOO_MANY_REQUESTS = 429
PATIENCE_SECONDS = 120
"""Most seconds to wait for a source that asks for patience."""


class HubDataset(NamedTuple):
    """The train split of a dataset on the Hub.

    Attributes:
        canonical: The examples.
        commit: The commit that was read.
        license: The licence that the Hub states, if it does.
        left_out: Split -> its rows, of the other splits.
    """

    canonical: CanonicalTable
    commit: str
    license: str | None
    left_out: dict[str, int]


def read_hub(name: str, revision: str | None, configuration: str | None) -> HubDataset:
    """Read the train split of a dataset.

    Raises:
        DatasetError: The Hub cannot be reached, or does not serve it; it has several configurations
            and none was chosen; or its content is not a dataset.
    """
    source = f"{name}@{revision}" if revision else name
    info = _hub_info(name, revision)  # first, so that a known commit is loaded
    with _hub_problems_explained(source):
        split = _load(name, info.sha, configuration, source)
    canonical = from_table(split.data.table, source=source)
    license_id = info.card_data.get("license") if info.card_data else None
    others = {
        other: found.num_examples
        for other, found in (split.info.splits or {}).items()
        if other != "train"
    }
    return HubDataset(canonical, str(info.sha), license_id, others)


def hub_commit(name: str, revision: str | None) -> str:
    """Return the commit of a revision, or of the newest one; raises as `read_hub` does."""
    return str(_hub_info(name, revision).sha)


def _load(name: str, commit: str | None, configuration: str | None, source: str) -> "Dataset":
    from datasets import get_dataset_config_names, load_dataset

    try:
        return load_dataset(name, configuration, revision=commit, split="train")
    except ValueError:
        names: list[str] = []
        with suppress(ValueError):
            names = get_dataset_config_names(name, revision=commit)
        if configuration is None and len(names) > 1:
            raise DatasetError(
                f"{source}: several configurations: {shown_names(names)}; choose one by its name "
                f"after a #, such as {source}#{names[0]}"
            ) from None
        if configuration is not None and configuration not in names:
            raise DatasetError(
                f"{source}: no configuration {configuration!r}; found {shown_names(names)}"
            ) from None
        raise


def _hub_info(name: str, revision: str | None) -> "DatasetInfo":
    from huggingface_hub import HfApi

    with _hub_problems_explained(f"{name}@{revision}" if revision else name):
        return _patiently(lambda: HfApi().dataset_info(name, revision=revision))


def _patiently(ask: Callable[[], "DatasetInfo"]) -> "DatasetInfo":
    """Retry while the Hub states when to, for `PATIENCE_SECONDS` in all."""
    from huggingface_hub.errors import HfHubHTTPError

    left_seconds = PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except HfHubHTTPError as error:
            wait_seconds = _retry_after_seconds(error)
            if wait_seconds is None or wait_seconds > left_seconds:
                raise
            left_seconds -= max(wait_seconds, 1)
            time.sleep(wait_seconds)


def _retry_after_seconds(error: "HfHubHTTPError") -> int | None:
    """Return how long a response 429 asks to wait, if it states seconds."""
    stated = (
        error.response.headers.get("Retry-After", "")
        if error.response.status_code == TOO_MANY_REQUESTS
        else ""
    )
    return int(stated) if stated.isdigit() else None


@contextmanager
def _hub_problems_explained(source: str) -> Iterator[None]:
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
    from huggingface_hub.errors import HTTPError as ConnectionFailure  # pyright: ignore[reportPrivateImportUsage]

    try:
        yield
    except RevisionNotFoundError as error:
        raise DatasetError(
            f"{source}: the Hub does not have this revision, or no longer: name another one, or "
            "none for the newest; what was read before is kept"
        ) from error
    except HfHubHTTPError as error:
        if error.response.status_code == TOO_MANY_REQUESTS:
            raise DatasetError(
                f"{source}: the Hub responded with too many requests (429) for longer than "
                f"{PATIENCE_SECONDS} s: materialize it again later, or set HF_TOKEN for a higher "
                "limit"
            ) from error
        raise DatasetError(
            f"{source}: the Hub does not serve this dataset ({_first_line(error)}); check name and "
            "revision, and HF_TOKEN if it is private"
        ) from error
    except (DatasetsError, ValueError) as error:
        # Unreadable files, several configurations, no train split.
        reason = _first_line(error.__cause__ or error)
        raise DatasetError(
            f"{source}: found on the Hub, but its train split cannot be loaded: {reason}"
        ) from error
    except (ConnectionFailure, OSError) as error:  # no connection, offline mode, a time-out
        raise DatasetError(
            f"{source}: the Hub cannot be reached ({_first_line(error)}); go online, or name a "
            "file instead"
        ) from error


def _first_line(error: BaseException) -> str:
    return without_secrets(str(error).strip().partition("\n")[0])
