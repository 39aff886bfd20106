"""tokenized_dataset: a dataset in a family's prompt style, as labelled token ids in rows."""

import dagster as dg

from dolly_assets.core.errors import DatasetError
from dolly_assets.dagster_support.columns import column_lineage, column_schema
from dolly_assets.dagster_support.partitions import DATASETS
from dolly_assets.dagster_support.resources import WorkerResource
from dolly_assets.family import ModelFamily
from dolly_assets.registry.kinds import BASE_MODEL, RAW_DATASET, TOKENIZED_DATASET
from dolly_assets.storage.artifact import Artifact
from dolly_assets.tokenization.labels import LABEL_RUNS
from dolly_assets.tokenization.tokenized_dataset import TRAIN_SCHEMA
from dolly_assets.worker.spec import Tokenize, ref

COLUMNS = {
    "record": "Index in the raw dataset.",
    "row": "The sequence that holds the example, alone or with others.",
    "input_ids": "Token ids of prompt and response.",
    "prompt_length": "Tokens before the last labelled turn. Those after them carry a label, unless "
    "a column label_runs states which do: tokens without and with a label, in turn.",
}
LABELS = {
    "label_runs": "Tokens without and with a label, in turn, where others carry one than those "
    "after the prompt.",
}


def _of_conversations() -> dict[str, object]:
    """Return the columns of conversations, and what they are made from."""
    made_from = ("messages", "tools")
    names = ("input_ids", "prompt_length", "label_runs", "row")
    return {
        "dagster/column_schema": column_schema(TRAIN_SCHEMA.append(LABEL_RUNS), COLUMNS | LABELS),
        "dagster/column_lineage": column_lineage(RAW_DATASET.name, dict.fromkeys(names, made_from)),
    }


def _of_exchanges() -> dict[str, object]:
    """Return what the columns of single exchanges are made from."""
    made_from = {
        "input_ids": ("instruction", "context", "response"),
        "prompt_length": ("instruction", "context"),
        "row": ("instruction", "context", "response"),
    }
    return {"dagster/column_lineage": column_lineage(RAW_DATASET.name, made_from)}


def build_tokenized_dataset(family: ModelFamily) -> dg.AssetsDefinition:
    """Return the asset `FAMILY/tokenized_dataset`, by dataset."""

    @dg.asset(
        key=TOKENIZED_DATASET.key(family.name),
        ins={
            "raw_dataset": dg.AssetIn(RAW_DATASET.key(family.name)),
            "base_model": dg.AssetIn(BASE_MODEL.key(family.name)),
        },
        partitions_def=DATASETS,
        metadata={"dagster/column_schema": column_schema(TRAIN_SCHEMA, COLUMNS)},
        group_name=family.name,
        kinds={"arrow"},
        description="Token ids in rows, with labels on what the assistant says only, and a "
        "held-out split that training never sees.",
        code_version=TOKENIZED_DATASET.code_version(family),
    )
    def tokenized_dataset(
        context: dg.AssetExecutionContext,
        worker: WorkerResource,
        raw_dataset: Artifact,
        base_model: Artifact,
    ) -> Artifact:
        if raw_dataset.manifest.attributes.get("form") == "preferences":
            raise DatasetError(
                f"dataset {context.partition_key} holds preferences, from which no family learns "
                "to answer: train on a dataset of examples"
            )
        task = Tokenize(
            dataset=context.partition_key, raw_dataset=ref(raw_dataset), base_model=ref(base_model)
        )
        [artifact] = worker.run(context, family, task)
        holds_conversations = raw_dataset.manifest.attributes.get("form") == "conversations"
        context.add_output_metadata(_of_conversations() if holds_conversations else _of_exchanges())
        return artifact

    return tokenized_dataset
