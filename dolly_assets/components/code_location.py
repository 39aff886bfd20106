"""Everything declared under `defs/`, as definitions with the resources of an environment."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import dagster as dg

from dolly_assets import defs as bundled
from dolly_assets.assets.quality_checks import build_dataset_checks
from dolly_assets.assets.raw_dataset import build_raw_dataset
from dolly_assets.automation.alert_sensors import build_alert_sensors
from dolly_assets.automation.alerts import Alerts
from dolly_assets.automation.conditions import automation_sensor
from dolly_assets.automation.dataset_sensor import build_dataset_sensor
from dolly_assets.automation.inbox_sensor import build_inbox_sensor
from dolly_assets.automation.orphaned_jobs import orphaned_jobs
from dolly_assets.automation.schedules import build_schedules
from dolly_assets.components.datasets import DatasetsComponent
from dolly_assets.components.model_family import ModelFamilyComponent
from dolly_assets.core.environment import PROJECT, Environment
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.hashing import json_digest
from dolly_assets.core.home import prepare_home
from dolly_assets.dagster_support.console import CONSOLE, console_logger
from dolly_assets.dagster_support.resources import StoreResource, WorkerResource
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.family import ModelFamily
from dolly_assets.registry.estimate import Estimator
from dolly_assets.storage.io_manager import ArtifactIOManager


def component_trees(environment: Environment) -> list[dg.ComponentTree]:
    """Return the trees of declared components: the bundled one, and that of `DOLLY_DEFS`."""
    modules = [bundled]
    if environment.more_defs and any(
        environment.more_defs.rglob("defs.yaml")
    ):  # Dagster takes no empty folder
        modules.append(_module_of(environment.more_defs))
    return [dg.ComponentTree.from_module(module, PROJECT) for module in modules]


def families(trees: list[dg.ComponentTree]) -> dict[str, ModelFamily]:
    """Return the declared model families by name.

    Raises:
        ConfigurationError: Two have the same name.
    """
    found: dict[str, ModelFamily] = {}
    for component in (
        item for tree in trees for item in tree.get_all_components(of_type=ModelFamilyComponent)
    ):
        name = component.family.name
        if name in found:
            raise ConfigurationError(
                f"two model families are called {name!r}: rename the folder in DOLLY_DEFS"
            )
        found[name] = component.family
    return found


def declared_datasets(trees: list[dg.ComponentTree]) -> list[DatasetConfig]:
    """Return the declared datasets."""
    components = [
        item for tree in trees for item in tree.get_all_components(of_type=DatasetsComponent)
    ]
    return [dataset for component in components for dataset in component.datasets]


def first_broken_file(environment: Environment) -> Path | None:
    """Return the first YAML file that does not load on its own, for errors that name none."""
    folders = [
        Path(bundled.__path__[0]),
        *([environment.more_defs] if environment.more_defs else []),
    ]
    for file in (file for folder in folders for file in sorted(folder.rglob("defs.yaml"))):
        try:
            dg.ComponentTree.from_module(_module_of(file.parent), PROJECT).get_all_components(
                of_type=dg.Component
            )
        except Exception:  # noqa: BLE001 whatever it is, it was reported already
            return file
    return None


def resources(environment: Environment, estimator: Estimator | None = None) -> dict[str, object]:
    """Return what assets need from the environment."""
    store = StoreResource(
        url=environment.store_url,
        cache_dir=str(environment.cache_dir),
        cache_limit_bytes=environment.cache_limit_bytes,
        inbox_url=environment.inbox_url,
    )
    return {
        "store": store,
        "planning": estimator
        or Estimator(environment.prices_file, in_cluster=bool(environment.kubernetes_file)),
        "alerts": Alerts(environment.alerts),
        "worker": WorkerResource(
            store=store,
            scratch_dir=str(environment.scratch_dir),
            kubernetes_file=str(environment.kubernetes_file)
            if environment.kubernetes_file
            else None,
        ),
        "io_manager": ArtifactIOManager(
            url=environment.store_url,
            cache_dir=str(environment.cache_dir),
            cache_limit_bytes=environment.cache_limit_bytes,
        ),
    }


def build(environment: Environment, estimator: Estimator | None = None) -> dg.Definitions:
    """Return all definitions for an environment.

    Args:
        environment: Where things are.
        estimator: Estimates trainings; a session shares its own with its runs.
    """
    prepare_home(environment)
    trees = component_trees(environment)
    bundled_tree, *more_trees = trees
    # Dagster merges definitions of one tree only; those of the others come without theirs.
    more = [
        component.build_defs(tree.load_context)
        for tree in more_trees
        for component in tree.get_all_components(of_type=ModelFamilyComponent)
    ]
    declared, is_on = declared_datasets(trees), environment.automation == "on"
    rest = dg.Definitions(
        assets=[build_raw_dataset(declared)],
        asset_checks=[build_dataset_checks()],
        sensors=[
            build_dataset_sensor(declared),
            build_inbox_sensor(declared, is_on=is_on),
            automation_sensor(is_on=is_on),
            *build_alert_sensors(is_on=is_on),
            *([orphaned_jobs] if environment.kubernetes_file else []),
        ],
        schedules=build_schedules(declared, is_on=is_on),
        resources=resources(environment, estimator),
        loggers={CONSOLE: console_logger},
    )
    return dg.Definitions.merge(bundled_tree.build_defs(), *more, rest)


def _module_of(folder: Path) -> ModuleType:
    """Return a folder outside the package as a module, as Dagster expects its definitions.

    Each folder has a module of its own, named after its path.
    """
    name = f"dolly_more_defs_{json_digest(str(folder))[:12]}"
    spec = importlib.util.spec_from_loader(name, loader=None, is_package=True)
    assert spec
    module = importlib.util.module_from_spec(spec)
    module.__path__ = [str(folder)]
    sys.modules[name] = module
    return module
