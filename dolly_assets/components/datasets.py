"""The component behind the list of declared datasets: it makes the raw_dataset asset."""

from typing import Self

import dagster as dg
from pydantic import BaseModel, Field

from dolly_assets.assets.raw_dataset import build_raw_dataset
from dolly_assets.config import Config
from dolly_assets.datasets.catalogue import DatasetConfig


class DatasetsAttributes(Config):
    """What the YAML says under `attributes`."""

    datasets: tuple[DatasetConfig, ...] = Field(description="The datasets that everybody knows by name.")


class DatasetsComponent(dg.Component):
    """The declared datasets; more can be added with `dolly datasets add`."""

    def __init__(self, datasets: tuple[DatasetConfig, ...]) -> None:
        self.datasets = datasets

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """What the YAML's `attributes` are checked against."""
        return DatasetsAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Builds the component from checked attributes."""
        assert isinstance(attributes, DatasetsAttributes)
        return cls(attributes.datasets)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The raw_dataset asset."""
        return dg.Definitions(assets=[build_raw_dataset(self.datasets)])
