"""Loads the fixtures that several folders share; those of one folder are in its own conftest."""

pytest_plugins = [
    "dolly_assets_tests.fixtures.homes",
    "dolly_assets_tests.fixtures.processes",
    "dolly_assets_tests.fixtures.stores",
]
