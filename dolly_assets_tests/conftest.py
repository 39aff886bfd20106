"""Loads the fixtures that several folders share; those of one folder are in its own conftest."""

import os
from collections import Counter
from collections.abc import Iterator
from unittest import mock

import pytest

pytest_plugins = [
    "dolly_assets_tests.fixtures.homes",
    "dolly_assets_tests.fixtures.processes",
    "dolly_assets_tests.fixtures.reports",
    "dolly_assets_tests.fixtures.stores",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first, so that the processes of a parallel run end together."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="module", autouse=True)
def environment_of_one_module() -> Iterator[None]:
    """What a module's tests and the code under test set in the environment ends with it."""
    with mock.patch.dict(os.environ):
        yield
