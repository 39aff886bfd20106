"""What turns YAML into assets."""

from dolly_assets.components.datasets import DatasetsComponent
from dolly_assets.components.model_family import ModelFamilyComponent

__all__ = ["DatasetsComponent", "ModelFamilyComponent"]
