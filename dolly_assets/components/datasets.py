"""The component behind a list of declared datasets.

The raw_dataset asset reads them all, so `definitions` makes it.
"""

from typing import Self

import dagster as dg
from pydantic import BaseModel

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.datasets.config import DatasetConfig, DatasetsAttributes


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
        if not isinstance(attributes, DatasetsAttributes):
            raise ConfigurationError(
                "attributes are missing: say datasets, each with name and source"
            )
        return cls(attributes.datasets)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Nothing by itself."""
        return dg.Definitions()
