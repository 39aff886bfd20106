from collections.abc import Iterator

import pytest

from dolly_assets.datasets.quality import finding


@pytest.fixture(scope="module")
def all_examples() -> Iterator[None]:
    """Findings show every record, not the first few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finding, "EXAMPLES", 1_000)
        yield
