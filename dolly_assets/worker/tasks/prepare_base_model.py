"""The base model task: the family's base model becomes a folder of plain weights in the store."""

from dolly_assets.registry.attributes import BaseModelAttributes
from dolly_assets.registry.kinds import BASE_MODEL
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.tokenization.templates.choice import choose
from dolly_assets.training.base_model import prepare
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.spec import PrepareBaseModel, WorkerSpec


def prepare_base_model(
    spec: WorkerSpec[PrepareBaseModel], store: ArtifactStore, messenger: Messenger
) -> None:
    """Publish `weights/`, whose tokenizer carries the family's chat template and its tokens."""
    family = spec.family
    out = spec.scratch_dir / "base_model"
    attributes = prepare(
        family.base_model,
        special_tokens=family.prompt_style.special_tokens,
        texts=lambda: _demo_texts(spec),
        out=out / "weights",
        log=messenger.log,
        template=lambda tokenizer: choose(family.template, family.prompt_style, tokenizer),
    )
    messenger.emit_published(
        store.publish(
            BASE_MODEL.address(family.name).name,
            out,
            kind=BASE_MODEL.name,
            attributes=BaseModelAttributes.model_validate(
                {"settings": BASE_MODEL.code_version(family), **attributes}
            ).as_json(),
            made_by=spec.made_by,
        )
    )


def _demo_texts(spec: WorkerSpec[PrepareBaseModel]) -> list[str]:
    """Return the texts that the tokenizer of an untrained model is trained on.

    They are the bundled dataset in the family's prompt style.
    """
    from dolly_assets.datasets.demo import generate

    style = spec.family.prompt_style
    return [
        style.prompt(row["instruction"], row["context"]) + style.completion(row["response"])
        for row in generate().to_pylist()
    ]
