"""Components: what turns the YAML of families and datasets into assets, and all into a location.

Knows which assets a family has; what an asset contains and how it is built is the business of
`assets`.

- `model_family`: the component of a model family.
- `scaffolder`: `dg scaffold defs` for a model family.
- `datasets`: the component of a list of datasets.
- `code_location`: all definitions, with the resources of an environment.
"""

from dolly_assets.components.datasets import DatasetsComponent
from dolly_assets.components.model_family import ModelFamilyComponent

__all__ = ["DatasetsComponent", "ModelFamilyComponent"]
