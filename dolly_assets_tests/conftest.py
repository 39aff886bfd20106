"""Loads the fixtures that several folders share; those of one folder are in its own conftest."""

import os
from collections.abc import Iterator
from unittest import mock

import pytest

pytest_plugins = [
    "dolly_assets_tests.fixtures.homes",
    "dolly_assets_tests.fixtures.processes",
    "dolly_assets_tests.fixtures.reports",
    "dolly_assets_tests.fixtures.stores",
]


@pytest.fixture(scope="module", autouse=True)
def environment_of_one_module() -> Iterator[None]:
    """What a module's tests and the code under test set in the environment ends with it."""
    with mock.patch.dict(os.environ):
        yield
