"""A store that the workers under test read and publish to."""

import pytest

from dolly_assets_tests.tiny_training import Bench, make_bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tmp_path_factory.mktemp("bench"))
