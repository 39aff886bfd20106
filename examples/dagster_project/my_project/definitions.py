"""A Dagster project with a model family in it, and an asset that reads what it trains."""

from pathlib import Path

import dagster as dg

from dolly_assets.assets.raw_dataset import build_raw_dataset
from dolly_assets.components.code_location import resources
from dolly_assets.core.environment import Environment
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource


@dg.asset(deps=[["my_model", "champion_model"]], partitions_def=DATASETS)
def model_card(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
    """Show what the platform recorded about the best epoch."""
    champion = store.open().latest(f"my_model/champion_model/{context.partition_key}")
    if champion is None:
        raise dg.Failure(f"no epoch is the champion on {context.partition_key}: train some first")
    facts = champion.manifest.attributes
    return dg.MaterializeResult(metadata={name: str(facts[name]) for name in sorted(facts)})


@dg.definitions
def definitions() -> dg.Definitions:
    """Return the components under defs/, the assets here, and the resources that both need."""
    return dg.Definitions.merge(
        dg.load_from_defs_folder(project_root=Path(__file__).parents[1]),
        dg.Definitions(
            assets=[build_raw_dataset([]), model_card], resources=resources(Environment.read())
        ),
    )
