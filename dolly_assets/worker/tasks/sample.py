"""The sampling task: each checkpoint answers the family's prompts, with the same seeds."""

import json

from dolly_assets.core.markdown import code_block
from dolly_assets.core.names import epoch_key
from dolly_assets.generation import sample as generation
from dolly_assets.generation.model import load_with_template
from dolly_assets.generation.prompt import Prompt
from dolly_assets.registry.attributes import SampleAttributes
from dolly_assets.registry.inputs import as_inputs
from dolly_assets.registry.kinds import SAMPLE_RESPONSES
from dolly_assets.registry.model_folders import fetch
from dolly_assets.storage.artifact import ArtifactStore
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.spec import Sample, WorkerSpec


def sample(spec: WorkerSpec[Sample], store: ArtifactStore, messenger: Messenger) -> None:
    """Publish responses.json for each checkpoint as soon as it has answered."""
    task, family = spec.task, spec.family
    settings = family.evaluation
    for epoch, reference in sorted(task.checkpoints.items()):
        checkpoint = store.get(reference.name, reference.digest)
        weights, adapter, template = fetch(store, checkpoint)
        loaded = load_with_template(
            weights, family.prompt_style, template=template, adapter=adapter
        )
        responses = generation.sample_responses(
            loaded.model,
            loaded.tokenizer,
            loaded.encoder,
            settings.prompts,
            seed=family.recipe.seed,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            batch_size=settings.batch_size,
        )
        messenger.log(f"epoch {epoch}: answered {len(responses)} prompts")
        out = spec.scratch_dir / epoch_key(epoch)
        out.mkdir(parents=True)
        pairs = list(zip(settings.prompts, responses, strict=True))
        document = [{**prompt.model_dump(), "response": response} for prompt, response in pairs]
        (out / "responses.json").write_text(json.dumps(document, indent=1, ensure_ascii=False))
        artifact = store.publish(
            SAMPLE_RESPONSES.address(family.name, task.dataset, epoch).name,
            out,
            kind=SAMPLE_RESPONSES.name,
            inputs=as_inputs(checkpoint),
            attributes=SampleAttributes(
                epoch=epoch,
                settings=SAMPLE_RESPONSES.code_version(family),
                responses_markdown=_markdown(pairs),
            ).as_json(),
            made_by=spec.made_by,
        )
        messenger.emit_published(artifact)
        del loaded  # before the next checkpoint is loaded


def _markdown(pairs: list[tuple[Prompt, str]]) -> str:
    return "\n\n".join(
        f"**Prompt**\n\n{code_block(prompt.text)}\n\n"
        f"**Response**\n\n{code_block(response.strip() or '(no answer)')}"
        for prompt, response in pairs
    )
