"""The component of a model family's YAML: it turns the family into its assets."""

from typing import Self

import dagster as dg
from pydantic import BaseModel

from dolly_assets.assets.base_model import build_base_model
from dolly_assets.assets.champion_export import build_champion_export, build_export_check
from dolly_assets.assets.champion_model import build_champion_model
from dolly_assets.assets.epoch_comparison import build_epoch_comparison
from dolly_assets.assets.evaluation import build_evaluation
from dolly_assets.assets.judgement import build_judgement
from dolly_assets.assets.judgement_checks import build_judgement_checks
from dolly_assets.assets.model_checkpoint import build_model_checkpoint
from dolly_assets.assets.profile_checks import build_profile_checks
from dolly_assets.assets.quality_checks import build_split_checks
from dolly_assets.assets.sample_responses import build_sample_responses
from dolly_assets.assets.score_checks import build_champion_checks, build_evaluation_checks
from dolly_assets.assets.suite_checks import build_suite_checks
from dolly_assets.assets.suite_scores import build_suite_scores
from dolly_assets.assets.template_checks import (
    build_base_model_template_check,
    build_checkpoint_template_check,
)
from dolly_assets.assets.tokenized_dataset import build_tokenized_dataset
from dolly_assets.assets.training_approval import build_training_approval
from dolly_assets.assets.training_plan import build_training_plan
from dolly_assets.assets.training_profile import build_training_profile
from dolly_assets.automation.conditions import with_automation
from dolly_assets.components.scaffolder import FamilyScaffolder
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.family import FamilyAttributes, ModelFamily

BUILDERS = (
    build_base_model,
    build_tokenized_dataset,
    build_training_plan,
    build_model_checkpoint,
    build_training_profile,
    build_sample_responses,
    build_evaluation,
    build_epoch_comparison,
    build_champion_model,
)
CHECK_BUILDERS = (
    build_base_model_template_check,
    build_split_checks,
    build_checkpoint_template_check,
    build_profile_checks,
    build_evaluation_checks,
    build_champion_checks,
)


@dg.scaffold_with(FamilyScaffolder)
class ModelFamilyComponent(dg.Component):
    """A base model and the way it is fine-tuned. The folder's name is the family's name."""

    def __init__(self, family: ModelFamily) -> None:
        self.family = family

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return the model against which the YAML's `attributes` are validated."""
        return FamilyAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Build the component from validated attributes."""
        if not isinstance(attributes, FamilyAttributes):
            raise ConfigurationError(
                "attributes are missing: expected at least dataset, base_model and recipe"
            )
        return cls(ModelFamily.declared_in(context.path, attributes))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the family's assets, with its owners and the conditions of its automation."""
        builders = [
            *BUILDERS,
            *([build_training_approval] if self.family.automation.needs_approval else []),
            *([build_suite_scores] if self.family.evaluation.suites else []),
            *([build_judgement] if self.family.evaluation.judge else []),
            *([build_champion_export] if self.family.export else []),
        ]
        check_builders = [
            *CHECK_BUILDERS,
            *([build_suite_checks] if self.family.evaluation.suites else []),
            *([build_judgement_checks] if self.family.evaluation.judge else []),
            *([build_export_check] if self.family.export else []),
        ]
        assets = [
            _owned(with_automation(build(self.family), self.family), self.family)
            for build in builders
        ]
        return dg.Definitions(
            assets=assets,
            asset_checks=[build(self.family) for build in check_builders],
        )


def _owned(assets: dg.AssetsDefinition, family: ModelFamily) -> dg.AssetsDefinition:
    return assets.map_asset_specs(lambda spec: spec.replace_attributes(owners=family.owners))
