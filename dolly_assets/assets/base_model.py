"""base_model: the model that a family fine-tunes, as plain weights with its special tokens."""

import dagster as dg

from dolly_assets.dagster_support.columns import hub_link
from dolly_assets.dagster_support.resources import WorkerResource
from dolly_assets.family import ModelFamily
from dolly_assets.registry.attributes import BaseModelAttributes
from dolly_assets.registry.kinds import BASE_MODEL
from dolly_assets.storage.artifact import Artifact
from dolly_assets.worker.spec import PrepareBaseModel


def build_base_model(family: ModelFamily) -> dg.AssetsDefinition:
    """Return the asset `FAMILY/base_model`."""

    @dg.asset(
        key=BASE_MODEL.key(family.name),
        group_name=family.name,
        kinds={"huggingface"},
        description="The model that the family fine-tunes, as plain weights, with the prompt "
        "style's special tokens.",
        code_version=BASE_MODEL.code_version(family),
    )
    def base_model(context: dg.AssetExecutionContext, worker: WorkerResource) -> Artifact:
        [artifact] = worker.run(context, family, PrepareBaseModel())
        if commit := BaseModelAttributes.of(artifact).revision:
            context.add_output_metadata(
                {"upstream": hub_link(str(family.base_model.source), commit)}
            )
        return artifact

    return base_model
