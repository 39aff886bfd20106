"""The component of a list of declared datasets.

It defines no asset: raw_dataset reads the datasets of all components.
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
        """Return the model against which the YAML's `attributes` are validated."""
        return DatasetsAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Build the component from validated attributes."""
        if not isinstance(attributes, DatasetsAttributes):
            raise ConfigurationError(
                "attributes are missing: expected datasets, each with name and source"
            )
        return cls(attributes.datasets)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return no definitions: raw_dataset, which reads all datasets, is defined elsewhere."""
        return dg.Definitions()
