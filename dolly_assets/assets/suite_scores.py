"""suite_scores: every epoch and the base model on the suites that the family declares."""

import dagster as dg

from dolly_assets.assets.epoch_checks import log_evaluations
from dolly_assets.assets.suite_checks import compare_suites
from dolly_assets.dagster_support.per_epoch import build_per_epoch_asset
from dolly_assets.family import ModelFamily
from dolly_assets.registry.attributes import SuiteAttributes
from dolly_assets.registry.kinds import SUITE, SUITE_SCORES
from dolly_assets.registry.queries import latest
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.suites.settings import SuiteFile
from dolly_assets.worker.spec import ScoreSuites, ref


def build_suite_scores(family: ModelFamily) -> dg.AssetsDefinition:
    """Return the asset `FAMILY/suite_scores`, by dataset and epoch."""

    def task(store: ArtifactStore, dataset: str, checkpoints: dict[int, Artifact]) -> ScoreSuites:
        suites = family.evaluation.suites
        return ScoreSuites(
            dataset=dataset,
            checkpoints={epoch: ref(artifact) for epoch, artifact in checkpoints.items()},
            suites={
                name: ref(_published(store, family, name, suite.source))
                for name, suite in suites.items()
                if suite.source
            },
        )

    return build_per_epoch_asset(
        family,
        SUITE_SCORES,
        description="Scores on the family's suites, each record's answer and score included.",
        kinds={"pytorch"},
        task=task,
        check=lambda context, store, scores: log_evaluations(
            context, compare_suites(store, scores)
        ),
    )


def _published(store: ArtifactStore, family: ModelFamily, name: str, source: SuiteFile) -> Artifact:
    """Return the records of a suite in the store, where workers on any machine find them.

    Raises:
        ConfigurationError: The file has changed since the YAML was read.
    """
    address = SUITE.address(family.name, name)
    known = latest(store, address)
    if known and SuiteAttributes.of(known).settings == source.sha256:
        return known
    attributes = SuiteAttributes(settings=source.sha256)
    return store.publish(
        address.name,
        family.evaluation.suites[name].files(),
        kind=SUITE.name,
        attributes=attributes.as_json(),
    )
