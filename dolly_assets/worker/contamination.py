"""Which records of a family's suites a checkpoint's training data holds, as the store has it.

A dataset is read once for all suites and epochs of a task.
"""

from collections.abc import Mapping

import numpy as np

from dolly_assets.core.errors import ArtifactError
from dolly_assets.datasets.quality.records import Records
from dolly_assets.family import ModelFamily
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.inputs import required_digest
from dolly_assets.registry.kinds import TOKENIZED_DATASET
from dolly_assets.registry.quality_reports import raw_of
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.conventions import TABLE_FILE
from dolly_assets.storage.large_tables import filter_rows
from dolly_assets.suites.contamination import Contaminated, contaminated
from dolly_assets.suites.records import Record, read_suite
from dolly_assets.suites.settings import RECORDS_FILE
from dolly_assets.tokenization.tokenized_dataset import TRAIN_FILE
from dolly_assets.worker.spec import ArtifactRef

NO_RECORDS = "not measured: tasks of lm-eval have no file of records"


class SuiteContamination:
    """The contaminated records of suites, or why they are not known."""

    def __init__(
        self, store: ArtifactStore, family: ModelFamily, suites: Mapping[str, ArtifactRef]
    ) -> None:
        self._store, self._family, self._published = store, family, suites
        self._known: dict[str, dict[str, Contaminated]] = {}

    def of(self, checkpoint: Artifact, suite: str) -> Contaminated | str:
        """Return the ids of a suite's contaminated records, or why they are not known."""
        if self._family.evaluation.suites[suite].lm_eval:
            return NO_RECORDS
        try:
            digest = required_digest(checkpoint, TOKENIZED_DATASET)
            if digest not in self._known:
                training = self._training(checkpoint, digest)
                self._known[digest] = contaminated(self._records(), training)
        except ArtifactError as error:
            return f"not measured: {error}"
        return self._known[digest][suite]

    def _training(self, checkpoint: Artifact, digest: str) -> Records:
        """Return the raw records that a checkpoint was trained on."""
        at = ArtifactAddress.parse(checkpoint.name)
        name = TOKENIZED_DATASET.address(self._family.name, at.dataset).name
        tokenized = self._store.get(name, digest)
        raw = raw_of(self._store, tokenized).read_table(TABLE_FILE)
        is_used = np.zeros(raw.num_rows, bool)
        is_used[tokenized.read_table(TRAIN_FILE)["record"].to_numpy()] = True
        return Records(filter_rows(raw, is_used))

    def _records(self) -> dict[str, list[Record]]:
        """Return the records of each suite that has a file of them."""
        found: dict[str, list[Record]] = {}
        for name, suite in self._family.evaluation.suites.items():
            if suite.lm_eval or name not in self._published:
                continue
            reference = self._published[name]
            folder = self._store.get(reference.name, reference.digest).fetch()
            found[name] = read_suite(folder / RECORDS_FILE, suite.scorer).records[: suite.limit]
        return found
