"""What the manifests of each kind state besides files and inputs: the schema of their attributes.

Workers and assets write these models, and everyone reads them. Manifests of earlier versions read
too: a key that was renamed keeps its former name as an alias, and keys unknown here are kept.
"""

from typing import Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from dolly_assets.core.errors import ArtifactError
from dolly_assets.core.text import one_line
from dolly_assets.exporting import Agreement
from dolly_assets.storage.artifact import Artifact
from dolly_assets.training.packing.expected import ExpectedLayouts


class Attributes(BaseModel):
    """The attributes of an artifact.

    Attributes:
        settings: The code version of its kind for the family's settings that made it.
        training: The digest of the training that it belongs to.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    settings: str | None = None
    training: str | None = None

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """Read the attributes of an artifact.

        Raises:
            ArtifactError: One is missing or has another type than expected.
        """
        try:
            return cls.model_validate(artifact.manifest.attributes)
        except ValidationError as error:
            raise ArtifactError(
                f"{artifact.name}: the attributes of its manifest are not those of this version: "
                f"{one_line(error)}; materialize it again"
            ) from error

    def as_json(self) -> dict[str, JsonValue]:
        """Return what a manifest keeps: whatever was given, null included."""
        return self.model_dump(mode="json", exclude_unset=True)


class LicenseAttributes(Attributes):
    """What a model's licences allow and require; None in manifests that don't record it."""

    licenses: dict[str, str] | None = None
    commercial_use: str | None = None
    obligations: list[str] | None = None

    def license_terms(self) -> dict[str, JsonValue]:
        """Return these alone, to be carried along."""
        names = LicenseAttributes.model_fields.keys() - Attributes.model_fields.keys()
        return self.model_dump(mode="json", include=names)


class RawDatasetAttributes(Attributes):
    """A dataset as its source gives it."""

    rows: int
    answers: Literal["open", "exact"] = "open"
    license: str = "unknown"
    source: str | None = None
    version: str | None = Field(default=None, description="What tells whether the source changed.")
    revision: str | None = Field(default=None, description="The commit or hash that was read.")
    format: str | None = None
    form: Literal["exchanges", "conversations", "preferences"] = Field(
        default="exchanges", description="What its records are."
    )
    checks: dict[str, JsonValue] | None = Field(
        default=None, description="The limits of quality checks that the dataset's YAML sets."
    )
    content_digest: str | None = Field(default=None, description="SHA-256 over the examples.")
    reading: list[str] | None = Field(
        default=None, description="Which files and columns were read, and which were not."
    )
    dropped_columns: list[str] | None = None
    sample_markdown: str | None = None


class BaseModelAttributes(Attributes):
    """A base model, ready to be fine-tuned."""

    source: str
    license: str = "unknown"
    revision: str | None = Field(
        default=None, description="Commit on the Hub, if it is from there."
    )
    architecture: str | None = None
    parameters: int
    embedding_rows: int
    tied_embeddings: bool
    dtype: str | None = None
    vocabulary_size: int | None = None
    context_length: int | None = None
    inactive_parameters: int = Field(
        default=0, description="Parameters of experts that a token does not pass."
    )
    layouts: ExpectedLayouts | None = Field(
        default=None, description="The layouts of examples that a training is expected to use."
    )
    template: str = Field(
        default="dolly", description="The chat template that it carries: a name, or a file's."
    )
    template_digest: str | None = Field(
        default=None, description="SHA-256 of the template's text; None before it was carried."
    )
    template_facts: dict[str, JsonValue] | None = Field(
        default=None, description="What the template does, found by rendering it."
    )
    new_tokens: list[str] | None = Field(
        default=None, description="Tokens that preparation added for the template."
    )


class TokenizedDatasetAttributes(Attributes):
    """A tokenized dataset; its other statistics are kept beside these."""

    answers: Literal["open", "exact"] = "open"
    train_examples: int | None = None
    held_out_examples: int | None = None
    dropped_too_long: int | None = None
    template: str = Field(default="dolly", description="The chat template.")
    template_digest: str | None = None
    refused: dict[str, int] | None = Field(
        default=None, description="Conversations that are not trained on, by reason."
    )
    shortened: int | None = Field(
        default=None, description="Conversations that lost their first turns as too long."
    )
    train_tokens: int | None = None
    preview_markdown: str | None = None


class PlanAttributes(Attributes):
    """A training's plan in short; the whole is in its file."""

    operations_per_epoch: float
    formula_bytes: int
    plan: str | None = None
    verdict: str | None = None
    needed_bytes: int | None = None
    hours: float | None = None
    cost_usd: float | None = None
    energy_kwh: float | None = None
    carbon_kg: float | None = None
    store_bytes: int | None = None
    calibrated_by: str | None = None
    table_markdown: str | None = None


class ApprovalAttributes(Attributes):
    """Who let a training begin."""

    approved_by: str


class CheckpointAttributes(LicenseAttributes):
    """The end of an epoch. What was measured while training is missing from epoch 0."""

    epoch: int
    ranks: int | None = None
    weights_sha256: str | None = None
    recipe: dict[str, JsonValue] | None = None
    loss: float | None = Field(default=None, description="Mean training loss of the epoch.")
    held_out_loss: float | None = Field(
        default=None,
        description="Nats per labelled held-out token at its end, if early stopping computed it.",
    )
    learning_rate: float | None = None
    grad_norm: float | None = None
    steps: int | None = None
    real_tokens: int | None = None
    processed_tokens: int | None = None
    labelled_tokens: int | None = None
    tokens_per_second: float | None = Field(
        default=None,
        description="Tokens of examples, without padding, per second of training time.",
    )
    training_seconds: float | None = Field(
        default=None, description="Training time of the epoch, without saving."
    )
    saving_seconds: float | None = Field(
        default=None,
        description="Time in which no rank trained, because the state was copied or written.",
    )
    data_seconds: float | None = None
    forward_seconds: float | None = None
    backward_seconds: float | None = None
    optimizer_seconds: float | None = None
    wait_seconds: float | None = None
    flops_per_second: float | None = None
    mfu: float | None = None
    peak_rank_memory_bytes: int | None = Field(
        default=None,
        validation_alias=AliasChoices("peak_rank_memory_bytes", "memory_peak_bytes"),
        description="Most memory that any rank held: allocated on its GPU, or resident on a CPU.",
    )


class TrainingStateAttributes(Attributes):
    """A training's state in the middle of an epoch."""

    epoch: int
    ranks: int
    step: int
    steps: int
    recipe: dict[str, JsonValue] | None = None


class EvaluationAttributes(Attributes):
    """The scores of a checkpoint."""

    epoch: int | None = None
    answers: Literal["open", "exact"] = "open"
    held_out_loss: float | None = Field(
        default=None,
        validation_alias=AliasChoices("held_out_loss", "heldout_loss"),
        description="Nats per labelled token; None if it was not finite.",
    )
    held_out_examples: int | None = Field(
        default=None, validation_alias=AliasChoices("held_out_examples", "heldout_examples")
    )
    perplexity: float | None = None
    exact_match: float | None = Field(
        default=None, description="Share of exactly right answers; None where answers are open."
    )
    exact_match_by_category: dict[str, float] | None = None
    token_f1: float | None = None
    held_out_loss_interval: tuple[float, float] | None = Field(
        default=None, description="95 % interval, by bootstrap over the examples."
    )
    exact_match_interval: tuple[float, float] | None = Field(
        default=None, description="95 % interval (Wilson's)."
    )
    token_f1_interval: tuple[float, float] | None = Field(
        default=None, description="95 % interval, by bootstrap over the examples."
    )
    smallest_difference: float | None = Field(
        default=None,
        description="The smallest difference in exact match that this many examples can show.",
    )
    calibration_error: float | None = Field(
        default=None, description="Expected calibration error of the labelled tokens, 0 to 1."
    )
    held_out_loss_by_category: dict[str, float | None] | None = Field(
        default=None, description="Nats per labelled token; None where it was not finite."
    )
    answer_figures: dict[str, float | None] | None = Field(
        default=None, description="Length, repetition, refusals and copying of the answers."
    )
    memorized: float | None = Field(
        default=None,
        description="Share of probed training records that are reproduced verbatim, 0 to 1.",
    )
    memorized_interval: tuple[float, float] | None = Field(
        default=None, description="95 % interval (Wilson's)."
    )
    memorized_held_out: float | None = Field(
        default=None, description="The same of held-out records, which were not trained on."
    )
    memorized_held_out_interval: tuple[float, float] | None = Field(
        default=None, description="95 % interval (Wilson's)."
    )
    memorization: float | None = Field(
        default=None, description="The first share minus that of held-out records."
    )
    memorization_interval: tuple[float, float] | None = Field(
        default=None, description="95 % interval of the difference (Newcombe's)."
    )
    memorization_too_short: int | None = Field(
        default=None,
        description="Training records that cannot be probed, since their response is too short.",
    )
    memorization_markdown: str | None = None
    answers_markdown: str | None = None


class SampleAttributes(Attributes):
    """A checkpoint's answers to the family's prompts."""

    epoch: int | None = None
    responses_markdown: str | None = None


class SuiteAttributes(Attributes):
    """The records of a suite, as they were scored; `settings` is the digest of its files."""


class SuiteScore(BaseModel):
    """What a checkpoint scored on a suite; None where nothing of the kind was measured."""

    model_config = ConfigDict(frozen=True, extra="allow")

    settings: str = Field(description="Digest of the suite's content and settings.")
    records: int
    score: float | None = Field(default=None, description="Mean score, 0 to 1.")
    score_interval: tuple[float, float] | None = Field(
        default=None, description="95 % interval: Wilson's of shares, the bootstrap's of means."
    )
    bits_per_byte: float | None = Field(default=None, description="Loss of the suite's texts.")
    bits_per_byte_interval: tuple[float, float] | None = None
    perplexity: float | None = Field(default=None, description="Of the texts, per token.")
    warnings: list[str] = Field(default=[], description="What makes the scores mean little.")
    contaminated: int | None = Field(
        default=None,
        description="Records that share a sequence of words with the training data; None where "
        "that was not measured.",
    )
    clean_score: float | None = Field(
        default=None, description="The score without these records, if there are any."
    )
    clean_score_interval: tuple[float, float] | None = None
    clean_bits_per_byte: float | None = None
    clean_bits_per_byte_interval: tuple[float, float] | None = None
    contamination: str | None = Field(default=None, description="The same in words.")


class SuiteScoresAttributes(Attributes):
    """The scores of a checkpoint on its family's suites."""

    epoch: int | None = None
    weights: str | None = Field(
        default=None, description="Digest of the weights and the template that were scored."
    )
    suites: dict[str, SuiteScore] = Field(default={}, description="Scores by suite.")
    scores_markdown: str | None = None
    answers_markdown: str | None = None


class JudgementAttributes(Attributes):
    """What a judge found of an epoch's answers, against the base model's; see `judging/outcome.py`.

    Before all pairs are judged, it states the epoch alone.
    """

    verdict: str | None = Field(default=None, description="What the judge found, in a sentence.")
    epoch: int | None = None
    win_rate: float | None = Field(
        default=None, description="Share of the pairs that the epoch won; a tie is half a win."
    )
    win_rate_interval: tuple[float, float] | None = Field(
        default=None, description="95 % interval: by bootstrap over the pairs; Wilson's if no tie."
    )
    p_value: float | None = Field(default=None, description="Of the sign test, two-sided.")
    pairs: int = 0
    wins: int = 0
    losses: int = 0
    ties: int = 0
    not_understood: int = 0
    equal_answers: int = 0
    first_preferred: int = 0
    second_preferred: int = 0
    order_agreement: float | None = Field(
        default=None, description="Share of the pairs judged alike in both orders."
    )
    order_kappa: float | None = Field(
        default=None, description="Cohen's kappa of the verdicts in the two orders."
    )
    longer_won: float | None = None
    why_none: str | None = Field(default=None, description="Why there is no win rate.")
    judge: str | None = Field(default=None, description="The judge's name, as it was requested.")
    judge_reported: list[str] = Field(
        default=[], description="The model's name, as the server reported it."
    )
    answers_of: str | None = Field(
        default=None, description="What holds the answers: `evaluation` or `sample_responses`."
    )
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    judge_seconds: float | None = None
    warnings: list[str] = Field(default=[], description="What makes the verdict mean little.")
    outcome_markdown: str | None = None
    verdicts_markdown: str | None = None


class ComparisonAttributes(LicenseAttributes):
    """The epochs of a training side by side."""

    epochs: int | None = None
    best_epoch: int | None = None
    length_trend: str | None = Field(
        default=None, description="Whether answers grow longer with training, in a sentence."
    )
    length_trend_p: float | None = Field(
        default=None, description="P-value of that trend, two-sided."
    )
    scores_markdown: str | None = None
    categories_markdown: str | None = Field(
        default=None, description="Scores by category and epoch."
    )
    suites_markdown: str | None = Field(
        default=None, description="Scores on suites, and their change from the base model."
    )
    judge_markdown: str | None = Field(
        default=None, description="Win rates over the base model, by the family's judge."
    )
    responses_markdown: str | None = None
    records_markdown: str | None = Field(
        default=None, description="Records whose training loss stands out."
    )


class ChampionAttributes(LicenseAttributes):
    """A model in a stage, the champion's or another, and the decision that left it there."""

    epoch: int
    checkpoint: str = Field(description="Digest of the checkpoint that it was.")
    verdict: str | None = None
    reason: str | None = None
    decided_by: str | None = Field(
        default=None, description="`rule`, or the user who promoted it or rolled back to it."
    )
    withdrawn: list[str] = Field(
        default=[],
        description="Digests of the checkpoints that were rolled back, which no rule promotes.",
    )
    template: str | None = Field(default=None, description="The chat template.")
    template_digest: str | None = None
    decision_markdown: str | None = None
    gain: float | None = Field(
        default=None,
        description="What the candidate gained, in the unit of the score that decided.",
    )
    p_value: float | None = Field(
        default=None, description="How often chance would let the best of as many epochs gain it."
    )
    weights_sha256: str | None = None
    exact_match: float | None = None
    held_out_loss: float | None = Field(
        default=None, validation_alias=AliasChoices("held_out_loss", "heldout_loss")
    )
    candidate_epoch: int | None = None
    candidate_exact_match: float | None = None
    candidate_held_out_loss: float | None = Field(
        default=None,
        validation_alias=AliasChoices("candidate_held_out_loss", "candidate_heldout_loss"),
    )


class FormatExport(BaseModel):
    """A model in one format: a folder of the artifact, with the format's name."""

    model_config = ConfigDict(frozen=True, extra="allow")

    key: str = Field(description="Digest of the weights, the format and its settings.")
    size_bytes: int
    agreements: list[Agreement] = Field(
        description="How far its answers are the model's, for each program that read it."
    )

    @property
    def passed(self) -> bool:
        """Whether every program that read it found what was asked for."""
        return all(each.passed for each in self.agreements)


class ChampionExportAttributes(LicenseAttributes):
    """The champion in the formats that other programs load."""

    epoch: int
    checkpoint: str = Field(description="Digest of the checkpoint that the champion was.")
    exports: dict[str, FormatExport] = Field(default={}, description="Exports by format.")
    exports_markdown: str | None = None


class ProfileAttributes(Attributes):
    """An epoch's profile in short; the report's other figures are kept beside these."""

    epoch: int | None = None
    verdict: str = ""
    ranks: int | None = None
    device_kind: Literal["gpu", "cpu"] | None = None
    device_names: list[str] = []
    peak_gpu_memory_bytes: int | None = None
    peak_process_memory_bytes: int | None = None
    energy_joules: float | None = None


class TrainingProfileAttributes(Attributes):
    """A whole training's profile in short; the report's other figures are kept beside these."""

    interrupted: list[str] = Field(
        default=[],
        validation_alias=AliasChoices("interrupted", "cut"),
        description="Digests of the profiles of interrupted epochs. Several have the same name, so "
        "they can't be among the inputs.",
    )


class QualityAttributes(Attributes):
    """What the quality checks of a dataset found, by check; the limits lie beside the dataset."""

    found: dict[str, int] = {}
