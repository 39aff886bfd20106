"""training_approval: a user has checked the plan and allows a family to train on the current data.

To approve is to materialize this asset. It only exists for families whose policy requires it. What
is approved is the tokenized dataset of that moment: new data needs a new approval.
"""

import json
import tempfile
from pathlib import Path

import dagster as dg

from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.dagster_support.run_context import made_by, user_of
from dolly_assets.family import ModelFamily
from dolly_assets.registry.attributes import ApprovalAttributes
from dolly_assets.registry.inputs import as_inputs
from dolly_assets.registry.kinds import TOKENIZED_DATASET, TRAINING_APPROVAL
from dolly_assets.registry.queries import required
from dolly_assets.storage.artifact import Artifact
from dolly_assets.storage.conventions import VALUE_FILE


def build_training_approval(family: ModelFamily) -> dg.AssetsDefinition:
    """Return the asset `FAMILY/training_approval`, by dataset."""

    @dg.asset(
        key=TRAINING_APPROVAL.key(family.name),
        deps=TRAINING_APPROVAL.input_keys(family.name),
        partitions_def=DATASETS,
        group_name=family.name,
        description="Materialize it to let the family train on what the dataset holds now.",
        code_version=TRAINING_APPROVAL.code_version(family),
    )
    def training_approval(context: dg.AssetExecutionContext, store: StoreResource) -> Artifact:
        artifacts, dataset = store.open(), context.partition_key
        tokenized = required(artifacts, TOKENIZED_DATASET.address(family.name, dataset))
        approved_by = user_of(context)
        value = {"approved_by": approved_by, "tokenized_dataset": tokenized.digest}
        context.add_output_metadata({"tokenized_dataset": tokenized.digest})
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / VALUE_FILE).write_text(json.dumps(value), encoding="utf-8")
            return artifacts.publish(
                TRAINING_APPROVAL.address(family.name, dataset).name,
                Path(folder),
                kind=TRAINING_APPROVAL.name,
                inputs=as_inputs(tokenized),
                attributes=ApprovalAttributes(approved_by=approved_by).as_json(),
                made_by=made_by(context),
            )

    return training_approval
