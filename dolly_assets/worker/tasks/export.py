"""The export task: the champion in its family's formats, each compared with the checkpoint.

A format that the same weights were exported in with the same settings is referred to, not written.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from dolly_assets.core.markdown import markdown_table
from dolly_assets.core.text import file_size
from dolly_assets.exporting import Export
from dolly_assets.exporting.exporter import Exporter
from dolly_assets.exporting.settings import WITH_GGUF, Format
from dolly_assets.registry.attributes import (
    ChampionAttributes,
    ChampionExportAttributes,
    FormatExport,
)
from dolly_assets.registry.exports import (
    adapter_model,
    exported_model,
    former_export,
    held_out_prompts,
)
from dolly_assets.registry.inputs import as_inputs
from dolly_assets.registry.kinds import CHAMPION_EXPORT
from dolly_assets.registry.suite_scores import weights_of
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.manifest import FileEntry
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.spec import ExportModel, WorkerSpec


def export(spec: WorkerSpec[ExportModel], store: ArtifactStore, messenger: Messenger) -> None:
    """Publish a folder for each format."""
    champion = store.get(spec.task.champion.name, spec.task.champion.digest)
    messenger.emit_published(_Champion(spec, store, messenger, champion).export())


class _Champion:
    """A champion that is exported; the model is loaded when a format needs it."""

    def __init__(
        self,
        spec: WorkerSpec[ExportModel],
        store: ArtifactStore,
        messenger: Messenger,
        champion: Artifact,
    ) -> None:
        self._spec, self._store, self._messenger = spec, store, messenger
        self._champion, self._files = champion, list[FileEntry]()

    def export(self) -> Artifact:
        """Publish all formats as one artifact."""
        family, dataset = self._spec.family, self._spec.task.dataset
        exports = {each: self._exported(each) for each in self._settings.formats}
        stated = ChampionAttributes.of(self._champion)
        attributes = ChampionExportAttributes(
            settings=CHAMPION_EXPORT.code_version(family),
            epoch=stated.epoch,
            checkpoint=stated.checkpoint,
            exports=exports,
            exports_markdown=_markdown(exports, self._settings),
            **stated.license_terms(),  # pyright: ignore[reportArgumentType] they are its own
        )
        return self._store.commit(
            CHAMPION_EXPORT.address(family.name, dataset).name,
            self._files,
            kind=CHAMPION_EXPORT.name,
            inputs=as_inputs(self._champion),
            attributes=attributes.as_json(),
            made_by=self._spec.made_by,
        )

    @property
    def _settings(self) -> Export:
        assert self._spec.family.export
        return self._spec.family.export

    @cached_property
    def _exporter(self) -> Exporter:
        store, family, dataset = self._store, self._spec.family, self._spec.task.dataset
        prompts = held_out_prompts(
            store, family.name, dataset, self._champion, self._settings.prompts
        )
        name = f"{family.name} {dataset} {ChampionAttributes.of(self._champion).epoch}"
        model = exported_model(store, family, self._champion)
        return Exporter(model, self._settings, prompts, name)

    def _exported(self, export_format: Format) -> FormatExport:
        """Export one format, or refer to it as it was exported before."""
        family, dataset = self._spec.family.name, self._spec.task.dataset
        key = self._settings.key(weights_of(self._champion), export_format)
        if former := former_export(self._store, family, dataset, export_format, key):
            self._messenger.log(f"{export_format}: exported before")
            entries = former.artifact.manifest.files
            self._files += [each for each in entries if each.path.startswith(f"{export_format}/")]
            return former.of
        out = self._spec.scratch_dir / export_format
        out.mkdir(parents=True)
        exporter = self._exporter
        if export_format == "lora":
            model = adapter_model(self._store, self._spec.family, self._champion)
            exporter = Exporter(model, self._settings, exporter.prompts, exporter.name)
        agreements = exporter.export(export_format, out)
        for each in agreements:
            self._messenger.log(f"{export_format}: {each.sentence}")
        files = {f"{export_format}/{file.relative_to(out)}": file for file in _files_in(out)}
        self._files += self._store.upload(files)
        size_bytes = sum(file.stat().st_size for file in files.values())
        return FormatExport(key=key, size_bytes=size_bytes, agreements=agreements)


def _files_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _markdown(exports: Mapping[str, FormatExport], settings: Export) -> str:
    rows = [
        (
            f"{name} ({settings.quantize})" if name in WITH_GGUF else name,
            file_size(each.size_bytes),
            "; ".join(agreement.sentence for agreement in each.agreements),
        )
        for name, each in exports.items()
    ]
    return markdown_table(("format", "size", "answers, beside the checkpoint's"), rows)
