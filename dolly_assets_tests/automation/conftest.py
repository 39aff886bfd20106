"""Code locations with the family `tiny` under a policy, each beside an instance of its own."""

import functools
from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from dolly_assets.components.code_location import build
from dolly_assets.core.environment import Environment
from dolly_assets_tests.automation.automated import Automated
from dolly_assets_tests.home import TINY_FAMILY


@pytest.fixture(scope="session")
def definitions_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dg.Definitions]:
    """Builds a code location whose family `tiny` has an automation policy, given as YAML."""

    @functools.cache
    def make(policy: str, family: str = TINY_FAMILY) -> dg.Definitions:
        home = tmp_path_factory.mktemp("automated")
        (home / "defs" / "tiny").mkdir(parents=True)
        (home / "defs" / "tiny" / "defs.yaml").write_text(f"{family}  automation: {policy}\n")
        return build(Environment(home=home, store_url=str(home / "store"), more_defs=home / "defs"))

    return make


@pytest.fixture
def automated(
    definitions_of: Callable[..., dg.Definitions],
) -> Iterator[Callable[..., Automated]]:
    """Makes a code location under a policy, beside an instance that has seen nothing."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield lambda *declared: Automated(definitions_of(*declared), instance)
