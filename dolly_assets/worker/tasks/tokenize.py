"""The tokenization task: raw examples become labelled token ids, with a held-out split."""

from dolly_assets.registry.attributes import (
    BaseModelAttributes,
    RawDatasetAttributes,
    TokenizedDatasetAttributes,
)
from dolly_assets.registry.inputs import as_inputs
from dolly_assets.registry.kinds import TOKENIZED_DATASET
from dolly_assets.registry.tokenized_datasets import publish_tokenized
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.storage.conventions import PICTURE_FILE, TABLE_FILE
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.spec import Tokenize, WorkerSpec


def tokenize(spec: WorkerSpec[Tokenize], store: ArtifactStore, messenger: Messenger) -> None:
    """Publish train.arrow and held_out.arrow, and a picture, statistics and a preview of them."""
    from transformers import AutoTokenizer

    from dolly_assets.tokenization import tokenize as tokenization
    from dolly_assets.tokenization.statistics import length_histogram_png
    from dolly_assets.tokenization.templates.tables import describe_losses
    from dolly_assets.tokenization.templates.template import carried

    task = spec.task
    family = spec.family
    raw = store.get(task.raw_dataset.name, task.raw_dataset.digest)
    base_model = store.get(task.base_model.name, task.base_model.digest)
    tokenizer = AutoTokenizer.from_pretrained(base_model.fetch("weights"), local_files_only=True)
    described = RawDatasetAttributes.of(raw)
    name = BaseModelAttributes.of(base_model).template
    messenger.log(f"tokenizing {described.rows:,} examples of {task.dataset} in template {name}")
    tokenized = tokenization.tokenize(
        raw.read_table(TABLE_FILE),
        tokenizer,
        family.prompt_style,
        max_length=family.recipe.max_length,
        packing=bool(family.recipe.packing),
        held_out_examples=family.recipe.held_out_examples,
        seed=family.recipe.seed,
        template=carried(name, family.prompt_style, tokenizer),
        labels=family.labels,
    )
    for line in describe_losses(tokenized.statistics):
        messenger.log(line)
    out = spec.scratch_dir / "tokenized_dataset"
    tokenized.write(out)
    (out / PICTURE_FILE).write_bytes(length_histogram_png(tokenized.statistics))
    messenger.emit_published(
        publish_tokenized(
            store,
            TOKENIZED_DATASET.address(family.name, task.dataset),
            out,
            tokenized,
            kind=TOKENIZED_DATASET.name,
            inputs=as_inputs(raw, base_model),
            attributes=TokenizedDatasetAttributes.model_validate(
                {
                    "settings": TOKENIZED_DATASET.code_version(family),
                    "answers": described.answers,
                    **tokenized.statistics,
                    "preview_markdown": tokenized.preview,
                }
            ).as_json(),
            made_by=spec.made_by,
        )
    )
