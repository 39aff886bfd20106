"""The table of the kinds of artifacts: what each is made from, and what determines its content.

Components, freshness, lineage, automation, status and the worker read it. A new asset is one entry
here and one module in `assets/`. It knows neither Dagster nor how an asset is computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from pydantic import JsonValue

from dolly_assets.core.hashing import json_digest
from dolly_assets.exporting.settings import VERSION as EXPORT_VERSION
from dolly_assets.family import ModelFamily
from dolly_assets.profiling.report import REPORT_FILE
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import (
    ApprovalAttributes,
    Attributes,
    BaseModelAttributes,
    ChampionAttributes,
    ChampionExportAttributes,
    CheckpointAttributes,
    ComparisonAttributes,
    EvaluationAttributes,
    JudgementAttributes,
    PlanAttributes,
    ProfileAttributes,
    QualityAttributes,
    RawDatasetAttributes,
    SampleAttributes,
    SuiteAttributes,
    SuiteScoresAttributes,
    TokenizedDatasetAttributes,
    TrainingProfileAttributes,
    TrainingStateAttributes,
)
from dolly_assets.storage.conventions import PICTURE_FILE
from dolly_assets.tokenization.templates import Labels


class Partitioning(Enum):
    """What there is one artifact for, besides the family."""

    NONE = "none"
    DATASET = "dataset"
    EPOCH = "dataset and epoch"


Settings = Callable[[ModelFamily], Sequence[JsonValue]]


@dataclass(frozen=True, eq=False)
class AssetKind:
    """A kind of artifact.

    Attributes:
        name: The asset's name, and the `kind` of its manifests.
        partitioning: What there is one artifact for.
        attributes: What its manifests state.
        inputs: The assets that it depends on in Dagster.
        settings: What of a family's settings decides its content. None where it is no asset of its
            own: it is published beside one, or decided by its source.
        output_version: Raised when our code makes something else of the same settings and inputs.
        descriptions: Its files that only describe the others. The digest, and so what is made from
            it, does not depend on them.
        former_names: Names under which earlier versions published it; they are read, not written.
        is_of_family: Whether each family has artifacts of its own.
        is_optional: Whether only some families have it.
        page: The file of its artifacts that is a page for browsers, if they have one. No other
            file of any artifact is served as a page.
    """

    name: str
    partitioning: Partitioning
    attributes: type[Attributes]
    inputs: tuple["AssetKind", ...] = ()
    settings: Settings | None = None
    output_version: int = 1
    descriptions: tuple[str, ...] = ()
    former_names: tuple[str, ...] = ()
    is_of_family: bool = True
    is_optional: bool = False
    page: str = ""

    def address(
        self, family: str = "", dataset: str = "", epoch: int | None = None
    ) -> ArtifactAddress:
        """Return the address of one of its artifacts, with what its partitioning needs."""
        return ArtifactAddress(
            family=family if self.is_of_family else "",
            asset=self.name,
            dataset="" if self.partitioning is Partitioning.NONE else dataset,
            epoch=epoch if self.partitioning is Partitioning.EPOCH else None,
        )

    def key(self, family: str) -> list[str]:
        """Return the path of the asset's key in Dagster."""
        return [family, self.name] if self.is_of_family else [self.name]

    def input_keys(self, family: str) -> list[list[str]]:
        """Return the paths of its inputs' keys in Dagster."""
        return [kind.key(family) for kind in self.inputs]

    def code_version(self, family: ModelFamily) -> str:
        """Return the SHA-256 of the settings that determine its content: its code version."""
        decisive = [*(self.settings(family) if self.settings else ()), self.output_version]
        return json_digest(decisive)


_REPORT = (PICTURE_FILE, REPORT_FILE)
_COMPARISON = "comparison.html"
DECISION_FILE = "decision.json"
"""The table behind a verdict."""
RECORD_LOSSES_FILE = "record_losses.parquet"
"""The losses of the records that an epoch trained on."""


def _no_settings(family: ModelFamily) -> Sequence[JsonValue]:
    """Return nothing: the inputs alone decide."""
    return []


def _base_model(family: ModelFamily) -> Sequence[JsonValue]:
    return [
        family.base_model.model_dump(mode="json"),
        [*family.prompt_style.special_tokens],
        *_other_template(family),
    ]


def _other_template(family: ModelFamily) -> Sequence[JsonValue]:
    """Return the template, unless it is `dolly` or chosen by the base model.

    Artifacts of versions that knew no other have the code version without it. Which of the two a
    base model was prepared with is among its attributes.
    """
    if family.template in (None, "dolly"):
        return []
    if isinstance(family.template, str):
        return [family.template]
    return [family.template.model_dump(mode="json")]


def _tokenized_dataset(family: ModelFamily) -> Sequence[JsonValue]:
    from dolly_assets.tokenization.pack import PACKING_VERSION  # which needs numpy

    recipe = family.recipe
    labels = [] if family.labels == Labels() else [family.labels.model_dump(mode="json")]
    return [
        family.prompt_style.model_dump(mode="json"),
        recipe.max_length,
        PACKING_VERSION if recipe.packing else None,
        recipe.held_out_examples,
        recipe.seed,
        *_other_template(family),
        *labels,
    ]


def _training_plan(family: ModelFamily) -> Sequence[JsonValue]:
    return [family.recipe.settings(), family.compute.model_dump(exclude={"kubernetes"})]


def _evaluation(family: ModelFamily) -> Sequence[JsonValue]:
    evaluation = family.evaluation
    # Scores of versions that probed nothing have the code version without it.
    default = type(evaluation).model_fields["memorization_records"].default
    probed = evaluation.memorization_records
    return [
        evaluation.examples,
        evaluation.max_new_tokens,
        *([] if probed == default else [{"memorization_records": probed}]),
    ]


# The digests of stored responses have all of them, though not all matter.
_OF_SAMPLES = {"examples", "max_new_tokens", "batch_size", "temperature", "top_p", "prompts"}


def _sample_responses(family: ModelFamily) -> Sequence[JsonValue]:
    evaluation = family.evaluation.model_dump(mode="json", include=_OF_SAMPLES)
    return [family.prompt_style.model_dump(mode="json"), evaluation]


def suite_settings(family: ModelFamily, name: str) -> str:
    """Return the digest of what determines a model's scores on one of its family's suites."""
    suite = family.evaluation.suites[name]
    return json_digest(
        [
            SUITE_SCORES.output_version,
            suite.decisive(),
            suite.max_new_tokens or family.evaluation.max_new_tokens,
            family.prompt_style.model_dump(mode="json"),
            *_other_template(family),
        ]
    )


def _suite_scores(family: ModelFamily) -> Sequence[JsonValue]:
    return [{name: suite_settings(family, name) for name in family.evaluation.suites}]


def _judgement(family: ModelFamily) -> Sequence[JsonValue]:
    judge = family.evaluation.judge
    return [judge.decisive()] if judge else []


def _champion_model(family: ModelFamily) -> Sequence[JsonValue]:
    rule = family.champion.model_dump(mode="json", exclude_defaults=True)
    return [rule] if rule else []


def _champion_export(family: ModelFamily) -> Sequence[JsonValue]:
    if family.export is None:
        return []
    return [EXPORT_VERSION, family.export.model_dump(mode="json")]


RAW_DATASET = AssetKind(
    "raw_dataset", Partitioning.DATASET, RawDatasetAttributes, is_of_family=False
)
BASE_MODEL = AssetKind("base_model", Partitioning.NONE, BaseModelAttributes, settings=_base_model)
TOKENIZED_DATASET = AssetKind(
    "tokenized_dataset",
    Partitioning.DATASET,
    TokenizedDatasetAttributes,
    inputs=(RAW_DATASET, BASE_MODEL),
    settings=_tokenized_dataset,
    descriptions=(PICTURE_FILE, "preview.md", "statistics.json"),
)
TRAINING_PLAN = AssetKind(
    "training_plan",
    Partitioning.DATASET,
    PlanAttributes,
    inputs=(BASE_MODEL, TOKENIZED_DATASET),
    settings=_training_plan,
)
TRAINING_APPROVAL = AssetKind(
    "training_approval",
    Partitioning.DATASET,
    ApprovalAttributes,
    inputs=(TRAINING_PLAN, TOKENIZED_DATASET),
    settings=_no_settings,
    is_optional=True,
)
MODEL_CHECKPOINT = AssetKind(
    "model_checkpoint",
    Partitioning.EPOCH,
    CheckpointAttributes,
    inputs=(BASE_MODEL, TOKENIZED_DATASET, TRAINING_PLAN),
    settings=lambda family: [family.recipe.digest],
    descriptions=(PICTURE_FILE, RECORD_LOSSES_FILE),
)
GPU_PROFILE = AssetKind(
    "gpu_profile",
    Partitioning.EPOCH,
    ProfileAttributes,
    inputs=(BASE_MODEL, TOKENIZED_DATASET, TRAINING_PLAN),
    settings=_no_settings,
    descriptions=_REPORT,
    page=REPORT_FILE,
)
TRAINING_PROFILE = AssetKind(
    "training_profile",
    Partitioning.DATASET,
    TrainingProfileAttributes,
    inputs=(GPU_PROFILE,),
    settings=_no_settings,
    descriptions=_REPORT,
    page=REPORT_FILE,
)
EVALUATION = AssetKind(
    "evaluation",
    Partitioning.EPOCH,
    EvaluationAttributes,
    inputs=(MODEL_CHECKPOINT,),
    settings=_evaluation,
)
SAMPLE_RESPONSES = AssetKind(
    "sample_responses",
    Partitioning.EPOCH,
    SampleAttributes,
    inputs=(MODEL_CHECKPOINT,),
    settings=_sample_responses,
)
SUITE_SCORES = AssetKind(
    "suite_scores",
    Partitioning.EPOCH,
    SuiteScoresAttributes,
    inputs=(MODEL_CHECKPOINT,),
    settings=_suite_scores,
    is_optional=True,
)
JUDGEMENT = AssetKind(
    "judgement",
    Partitioning.EPOCH,
    JudgementAttributes,
    inputs=(EVALUATION, SAMPLE_RESPONSES),
    settings=_judgement,
    is_optional=True,
)
EPOCH_COMPARISON = AssetKind(
    "epoch_comparison",
    Partitioning.DATASET,
    ComparisonAttributes,
    inputs=(MODEL_CHECKPOINT, EVALUATION, SAMPLE_RESPONSES),
    settings=_no_settings,
    descriptions=(PICTURE_FILE, _COMPARISON),
    page=_COMPARISON,
)
CHAMPION_MODEL = AssetKind(
    "champion_model",
    Partitioning.DATASET,
    ChampionAttributes,
    inputs=(EPOCH_COMPARISON, EVALUATION, MODEL_CHECKPOINT),
    settings=_champion_model,
    descriptions=(DECISION_FILE,),
)
CHAMPION_EXPORT = AssetKind(
    "champion_export",
    Partitioning.DATASET,
    ChampionExportAttributes,
    inputs=(CHAMPION_MODEL,),
    settings=_champion_export,
    is_optional=True,
)

# Published beside an asset: no asset of Dagster's stands for these.
SUITE = AssetKind("suite", Partitioning.DATASET, SuiteAttributes)
"""The records of a suite. In its address, the suite's name is in the place of a dataset's."""
DATASET_QUALITY = AssetKind("dataset_quality", Partitioning.DATASET, QualityAttributes)
TRAINING_STATE = AssetKind("training_state", Partitioning.DATASET, TrainingStateAttributes)
INTERRUPTED_PROFILE = AssetKind(
    "interrupted_profile",
    Partitioning.EPOCH,
    ProfileAttributes,
    descriptions=_REPORT,
    former_names=("cut_profile",),
    page=REPORT_FILE,
)
CHAMPION_EVALUATION = AssetKind(
    "champion_evaluation", Partitioning.EPOCH, EvaluationAttributes, settings=_evaluation
)

CANDIDATE_MODEL = AssetKind(
    "candidate_model", Partitioning.DATASET, ChampionAttributes, descriptions=(DECISION_FILE,)
)
STAGING_MODEL = AssetKind("staging_model", Partitioning.DATASET, ChampionAttributes)

FAMILY_ASSETS = (
    BASE_MODEL,
    TOKENIZED_DATASET,
    TRAINING_PLAN,
    TRAINING_APPROVAL,
    MODEL_CHECKPOINT,
    GPU_PROFILE,
    TRAINING_PROFILE,
    SAMPLE_RESPONSES,
    EVALUATION,
    SUITE_SCORES,
    JUDGEMENT,
    EPOCH_COMPARISON,
    CHAMPION_MODEL,
    CHAMPION_EXPORT,
)
"""The assets that families have of their own, in the order of the graph."""

_BESIDE = (
    SUITE,
    DATASET_QUALITY,
    TRAINING_STATE,
    INTERRUPTED_PROFILE,
    CHAMPION_EVALUATION,
    CANDIDATE_MODEL,
    STAGING_MODEL,
)
KINDS = {
    name: kind
    for kind in (RAW_DATASET, *FAMILY_ASSETS, *_BESIDE)
    for name in (kind.name, *kind.former_names)
}
"""Every kind by its name in the store, former names included."""
