"""`dolly export`: a checkpoint as a folder that other programs load."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dolly_assets.cli._session import open_session
from dolly_assets.cli._stages import exported_target
from dolly_assets.core.errors import ConfigurationError, ExportError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dolly_assets.exporting import Agreement, Export
    from dolly_assets.exporting.settings import Format
    from dolly_assets.family import ModelFamily
    from dolly_assets.storage.artifact import Artifact, ArtifactStore

_FORMATS = ("hf", "lora", "gguf", "ollama")
_QUANTIZATIONS = ("f32", "f16", "q8_0")


@click.command()
@click.argument("model", metavar="MODEL/DATASET[/EPOCH|/champion]")
@click.option(
    "--to",
    "folder",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder to write, which does not exist or is empty.",
)
@click.option(
    "--format",
    "export_format",
    required=True,
    type=click.Choice(_FORMATS),
    help="hf: weights for transformers and vLLM. lora: the adapter. gguf: a file for llama.cpp. "
    "ollama: the same with a Modelfile.",
)
@click.option(
    "--quantize",
    type=click.Choice(_QUANTIZATIONS),
    help="How a GGUF file stores matrices.  [default: f16]",
)
@click.option(
    "--prompts",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Held-out prompts whose answers are compared with the checkpoint's.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Length of the longest compared answer.",
)
def export(
    model: str,
    folder: Path,
    export_format: "Format",
    quantize: str | None,
    prompts: int,
    max_new_tokens: int,
) -> None:
    """Write a checkpoint as a folder that other programs load, and compare its answers.

    Without an epoch, it is the champion. Nothing is left in DIR unless the answers are those of the
    checkpoint; a quantized file may differ a little, and how much is printed.
    """
    from dolly_assets.exporting import Export
    from dolly_assets.exporting.folder import new_folder
    from dolly_assets.exporting.settings import WITH_GGUF
    from dolly_assets.registry.exports import checkpoint_to_export
    from dolly_assets.registry.stages import name_of

    if quantize and export_format not in WITH_GGUF:
        raise ConfigurationError(
            f"--quantize is for {' and '.join(WITH_GGUF)}: {export_format} keeps the weights as "
            "they are"
        )
    settings = Export.model_validate(
        {
            "formats": [export_format],
            "quantize": quantize or "f16",
            "prompts": prompts,
            "max_new_tokens": max_new_tokens,
        }
    )
    target, session = exported_target(model), open_session()
    family = session.family(target.family)
    with new_folder(folder) as partial:
        checkpoint = checkpoint_to_export(session.store, family, target.dataset, target.epoch)
        click.echo(f"exporting {name_of(checkpoint)}, {checkpoint.name} …", err=True)
        compared = _written(session.store, family, target.dataset, checkpoint, settings, partial)
        for each in compared:
            click.echo(each.sentence)
        if not all(each.passed for each in compared):
            raise ExportError(
                f"the answers of this export are too far from those of {checkpoint.name} (see "
                f"above), so nothing was left in {folder}: export it as hf, or with --quantize f16"
            )
    click.echo(f"{folder}: {_contents(folder)}")


def _written(
    store: "ArtifactStore",
    family: "ModelFamily",
    dataset: str,
    checkpoint: "Artifact",
    settings: "Export",
    out: Path,
) -> "Sequence[Agreement]":
    """Write an export, or fetch it where the store has it; return how its answers compare."""
    from dolly_assets.exporting.exporter import Exporter
    from dolly_assets.registry.exports import (
        adapter_model,
        exported_model,
        former_export,
        held_out_prompts,
    )
    from dolly_assets.registry.suite_scores import weights_of

    [export_format] = settings.formats
    key = settings.key(weights_of(checkpoint), export_format)
    former = former_export(store, family.name, dataset, export_format, key)
    if former:
        click.echo(f"fetching it from {former.artifact.name}", err=True)
        former.artifact.copy_to(out, export_format)
        return former.of.agreements
    model_of = adapter_model if export_format == "lora" else exported_model
    model = model_of(store, family, checkpoint)
    prompts = held_out_prompts(store, family.name, dataset, checkpoint, settings.prompts)
    name = f"{family.name} {dataset} {checkpoint.manifest.attributes.get('epoch', 0)}"
    return Exporter(model, settings, prompts, name).export(export_format, out)


def _contents(folder: Path) -> str:
    from dolly_assets.core.text import count, file_size

    files = [file for file in folder.rglob("*") if file.is_file()]
    size = file_size(sum(file.stat().st_size for file in files))
    return f"{count(len(files), 'file')}, {size}"
