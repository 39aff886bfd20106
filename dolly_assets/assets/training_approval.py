"""training_approval: somebody has looked at the plan and lets a family train on a dataset's present data.

To approve is to materialize this asset. It only exists for families whose policy asks for it. What
is approved is the tokenized dataset of that moment: new data needs a new approval.
"""

import getpass

import dagster as dg

from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import StoreResource
from dolly_assets.family import ModelFamily
from dolly_assets.registry.kinds import TOKENIZED_DATASET, TRAINING_APPROVAL
from dolly_assets.registry.queries import required


def build_training_approval(family: ModelFamily) -> dg.AssetsDefinition:
    """The asset `FAMILY/training_approval`, by dataset."""

    @dg.asset(
        key=TRAINING_APPROVAL.key(family.name),
        deps=TRAINING_APPROVAL.input_keys(family.name),
        partitions_def=DATASETS,
        group_name=family.name,
        description="Materialize it to let the family train on what the dataset holds now.",
        code_version=TRAINING_APPROVAL.code_version(family),
    )
    def training_approval(
        context: dg.AssetExecutionContext, store: StoreResource
    ) -> dict[str, str]:
        tokenized = required(
            store.open(), TOKENIZED_DATASET.address(family.name, context.partition_key)
        )
        run = context.instance.get_run_by_id(context.run_id)
        approved_by = (run.tags.get("user") if run else None) or getpass.getuser()
        context.add_output_metadata(
            {"approved_by": approved_by, "tokenized_dataset": tokenized.digest}
        )
        return {"approved_by": approved_by, "tokenized_dataset": tokenized.digest}

    return training_approval
