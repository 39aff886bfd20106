"""The base model task: whatever the family names becomes one folder of plain weights in the store."""

from dolly_assets.registry.kinds import BASE_MODEL
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.training.base_model import prepare
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.spec import PrepareBaseModel, WorkerSpec


def prepare_base_model(spec: WorkerSpec, store: ArtifactStore, report: Messenger) -> None:
    """Publishes `weights/` with the prompt style's special tokens in its tokenizer."""
    assert isinstance(spec.task, PrepareBaseModel)
    family = spec.family
    out = spec.scratch_dir / "base_model"
    facts = prepare(
        family.base_model,
        special_tokens=family.prompt_style.special_tokens,
        texts=lambda: _demo_texts(spec),
        out=out / "weights",
        log=report.log,
    )
    report.published(
        store.publish(
            BASE_MODEL.address(family.name).name,
            out,
            kind=BASE_MODEL.name,
            attributes={"settings": BASE_MODEL.code_version(family), **facts},
            made_by=spec.made_by,
        )
    )


def _demo_texts(spec: WorkerSpec) -> list[str]:
    """What the tokenizer of an untrained model is trained on: the bundled dataset, in the family's prompt style."""
    from dolly_assets.datasets.demo import generate

    style = spec.family.prompt_style
    return [
        style.prompt(row["instruction"], row["context"]) + style.completion(row["response"])
        for row in generate().to_pylist()
    ]
