"""`dg scaffold defs` for model families: the same YAML as `dolly models add` writes."""

from contextlib import suppress

import dagster as dg
from pydantic import BaseModel, Field

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.scaffolding.new_family import NewFamily, write_family


class FamilyParams(BaseModel):
    """What a new family is made of."""

    base: str = Field(description="The base model: a Hub id or a folder.")
    dataset: str = Field(default="databricks_dolly_15k", description="Its dataset.")
    device: str = Field(default="H100", description="Model of GPU to plan for.")
    gpus: int = Field(default=1, ge=1, description="GPUs of its machine.")
    license: str | None = Field(default=None, description="Licence of the base model.")


class FamilyScaffolder(dg.Scaffolder[FamilyParams]):
    """Writes a family's defs.yaml, or nothing."""

    @classmethod
    def get_scaffold_params(cls) -> type[FamilyParams]:
        """Return the model of the command's options."""
        return FamilyParams

    def scaffold(self, request: dg.ScaffoldRequest[FamilyParams]) -> None:
        """Write the YAML; without success, an empty folder is removed, which would break loading.

        Raises:
            ConfigurationError: The format is Python, or the family cannot be declared.
        """
        given, folder = request.params, request.target_path
        try:
            if request.scaffold_format != "yaml":
                raise ConfigurationError("a model family is YAML: leave out --format python")
            new = NewFamily(given.base, given.dataset, given.device, given.gpus, given.license)
            write_family(folder, new)
        except Exception:
            with suppress(OSError):
                folder.rmdir()
            raise
