"""The task of suites: each checkpoint is scored on those that its weights were not scored on.

Scores are committed suite by suite, so that an interrupted worker loses one suite at most.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dolly_assets.core.names import epoch_key
from dolly_assets.family import ModelFamily
from dolly_assets.generation.model import LoadedModel, load_with_template
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import SuiteScore, SuiteScoresAttributes
from dolly_assets.registry.inputs import as_inputs
from dolly_assets.registry.kinds import SUITE_SCORES, suite_settings
from dolly_assets.registry.model_folders import fetch
from dolly_assets.registry.suite_scores import results_file, scored_before, weights_of
from dolly_assets.registry.suite_tables import answers_markdown, score_text, scores_markdown
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.manifest import FileEntry
from dolly_assets.suites import Suite, SuiteName
from dolly_assets.suites.contamination import marked, sentence, without_contaminated
from dolly_assets.suites.harness import score_task
from dolly_assets.suites.records import read_suite, warnings_of
from dolly_assets.suites.results import CONTAMINATED, measured
from dolly_assets.suites.run import SuiteRun
from dolly_assets.suites.settings import RECORDS_FILE
from dolly_assets.worker.contamination import SuiteContamination
from dolly_assets.worker.messages import Messenger
from dolly_assets.worker.spec import ScoreSuites, WorkerSpec


def score_suites(spec: WorkerSpec[ScoreSuites], store: ArtifactStore, messenger: Messenger) -> None:
    """Publish the scores of each checkpoint on all suites of the family."""
    contamination = SuiteContamination(store, spec.family, spec.task.suites)
    for epoch, reference in sorted(spec.task.checkpoints.items()):
        checkpoint = store.get(reference.name, reference.digest)
        artifact = _Epoch(spec, store, messenger, epoch, checkpoint, contamination).score()
        messenger.emit_published(artifact)


class _Scored(NamedTuple):
    """What a checkpoint scored on a suite: the scores, and the results by record as stored."""

    score: SuiteScore
    results: pa.Table
    file: FileEntry


@dataclass
class _Epoch:
    """A checkpoint that is scored; the model is loaded when a suite needs it."""

    spec: WorkerSpec[ScoreSuites]
    store: ArtifactStore
    messenger: Messenger
    epoch: int
    checkpoint: Artifact
    contamination: SuiteContamination

    def score(self) -> Artifact:
        """Score what was not scored before, and return the artifact with all suites."""
        wanted = {name: suite_settings(self._family, name) for name in self._suites}
        before = scored_before(self.store, self._address, weights_of(self.checkpoint))
        scored = {
            name: self._compared(name, known.score, known.table(), known.file)
            for name, settings in wanted.items()
            if (known := before.get((name, settings)))
        }
        if scored:
            self.messenger.log(f"epoch {self.epoch}: scored before on {', '.join(scored)}")
        artifact = None
        for name in [name for name in wanted if name not in scored]:
            scored[name] = self._score(name, wanted[name])
            self.messenger.log(f"epoch {self.epoch}: {name} {score_text(scored[name].score)}")
            artifact = self._commit(scored)
        return artifact or self._commit(scored)

    @property
    def _family(self) -> ModelFamily:
        return self.spec.family

    @property
    def _suites(self) -> dict[SuiteName, Suite]:
        return self._family.evaluation.suites

    @property
    def _address(self) -> ArtifactAddress:
        return SUITE_SCORES.address(self._family.name, self.spec.task.dataset, self.epoch)

    @cached_property
    def _loaded(self) -> LoadedModel:
        weights, adapter, template = fetch(self.store, self.checkpoint)
        style = self.spec.family.prompt_style
        return load_with_template(weights, style, template=template, adapter=adapter)

    def _score(self, name: str, settings: str) -> _Scored:
        """Score the records of a suite, and upload the results."""
        suite = self._suites[name]
        reference = self.spec.task.suites.get(name)
        folder = self.store.get(reference.name, reference.digest).fetch() if reference else None
        if suite.lm_eval:
            results, warnings = self._score_task(name, folder), list[str]()
        else:
            assert folder
            results, warnings = self._score_records(name, folder / RECORDS_FILE)
        return self._compared(name, _score_of(results, settings, warnings), results)

    def _compared(
        self, name: str, score: SuiteScore, results: pa.Table, file: FileEntry | None = None
    ) -> _Scored:
        """Compare a suite with the training data; upload results unless they are as stored."""
        found = self.contamination.of(self.checkpoint, name)
        ids = None if isinstance(found, str) else found
        compared = marked(results, ids)
        if file is None or (ids is not None and not compared.equals(results)):
            file = self._upload(name, compared)
        stated = {"contamination": found} if ids is None else _contamination_of(compared)
        return _Scored(score.model_copy(update={**_NOT_COMPARED, **stated}), compared, file)

    def _upload(self, name: str, results: pa.Table) -> FileEntry:
        file = self.spec.scratch_dir / epoch_key(self.epoch) / results_file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(results, file, compression="zstd")
        [entry] = self.store.upload({file.name: file})
        return entry

    def _score_task(self, name: str, folder: Path | None) -> pa.Table:
        """Score a task of lm-eval: one of its own, or the files of a folder."""
        suite = self._suites[name]
        return score_task(
            self._loaded,
            name,
            folder or str(suite.lm_eval),
            limit=suite.limit,
            chat_template=suite.uses_chat_template,
            batch_size=self._family.evaluation.batch_size,
        )

    def _score_records(self, name: str, file: Path) -> tuple[pa.Table, list[str]]:
        """Score the records of a file, and return what makes the scores mean little, too."""
        evaluation, suite = self._family.evaluation, self._suites[name]
        records = read_suite(file, suite.scorer).records[: suite.limit]
        warnings = warnings_of(records)
        for warning in warnings:
            self.messenger.log(f"suite {name}: {warning}")
        run = SuiteRun(
            self._loaded,
            suite,
            place=f"suite {name}",
            max_new_tokens=suite.max_new_tokens or evaluation.max_new_tokens,
            batch_size=evaluation.batch_size,
            batching=evaluation.batching,
        )
        return run.score(records), warnings

    def _commit(self, scored: dict[str, _Scored]) -> Artifact:
        """Publish what was scored so far; without all suites, it is not up to date."""
        ordered = {name: scored[name] for name in self._suites if name in scored}
        scores = {name: each.score for name, each in ordered.items()}
        is_whole = len(scores) == len(self._suites)
        suites = {each.name: each.digest for each in self.spec.task.suites.values()}
        attributes = SuiteScoresAttributes(
            epoch=self.epoch,
            settings=SUITE_SCORES.code_version(self._family) if is_whole else None,
            weights=weights_of(self.checkpoint),
            suites=scores,
            scores_markdown=scores_markdown(scores),
            answers_markdown=answers_markdown(
                {name: each.results for name, each in ordered.items()}
            ),
        )
        return self.store.commit(
            self._address.name,
            [each.file for each in ordered.values()],
            kind=SUITE_SCORES.name,
            inputs={**as_inputs(self.checkpoint), **suites},
            attributes=attributes.as_json(),
            made_by=self.spec.made_by,
        )


def _score_of(results: pa.Table, settings: str, warnings: list[str]) -> SuiteScore:
    found = measured(results)
    return SuiteScore(
        settings=settings,
        records=results.num_rows,
        score=found.score.value,
        score_interval=found.score.interval,
        bits_per_byte=found.bits_per_byte.value,
        bits_per_byte_interval=found.bits_per_byte.interval,
        perplexity=found.perplexity,
        warnings=warnings,
    )


_NOT_COMPARED = dict.fromkeys(
    (
        "contaminated",
        "clean_score",
        "clean_score_interval",
        "clean_bits_per_byte",
        "clean_bits_per_byte_interval",
        "contamination",
    )
)


def _contamination_of(results: pa.Table) -> dict[str, object]:
    """Return what is stated of results whose contaminated records are known."""
    contaminated = sum(results[CONTAMINATED].to_pylist())
    clean = without_contaminated(results)
    stated: dict[str, object] = {
        "contaminated": contaminated,
        "contamination": sentence(contaminated, results.num_rows, clean),
    }
    if clean:
        stated |= {
            "clean_score": clean.score.value,
            "clean_score_interval": clean.score.interval,
            "clean_bits_per_byte": clean.bits_per_byte.value,
            "clean_bits_per_byte_interval": clean.bits_per_byte.interval,
        }
    return stated
