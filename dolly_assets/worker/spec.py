"""The JSON document that a worker receives: family, task and where things are.

It is the contract between the orchestrator and the machines with devices, and knows neither how
workers are started nor what they do.
"""

from pathlib import Path
from typing import Annotated, Generic, Literal, TypeGuard

from pydantic import Field, JsonValue, ValidationError
from typing_extensions import TypeVar

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.text import one_line
from dolly_assets.family import ModelFamily
from dolly_assets.planning.prices import Prices
from dolly_assets.storage.artifact import Artifact, ArtifactStore
from dolly_assets.storage.s3 import S3Settings

SPEC_FILE = "spec.json"  # in a worker's scratch folder: what it was started with


class ArtifactRef(Config):
    """An artifact in the store, by name and content."""

    name: str
    digest: str


def ref(artifact: Artifact) -> ArtifactRef:
    """Return the reference by which a worker finds an artifact."""
    return ArtifactRef(name=artifact.name, digest=artifact.digest)


class PrepareBaseModel(Config):
    """Bring the family's base model into the store, with the prompt style's special tokens."""

    task: Literal["prepare_base_model"] = "prepare_base_model"


class Tokenize(Config):
    """Turn raw examples into labelled token ids, with a held-out split."""

    task: Literal["tokenize"] = "tokenize"
    dataset: str
    raw_dataset: ArtifactRef
    base_model: ArtifactRef


class Train(Config):
    """Fine-tune over a range of epochs, publishing each as it ends."""

    task: Literal["train"] = "train"
    dataset: str
    epochs: tuple[int, ...] = Field(
        min_length=1, description="Consecutive epochs, 0 being the base model."
    )
    base_model: ArtifactRef
    tokenized_dataset: ArtifactRef
    resume_from: ArtifactRef | None = Field(
        default=None, description="The checkpoint of the epoch before the first one."
    )
    state: ArtifactRef | None = Field(
        default=None, description="A state within the first epoch to resume from."
    )
    held_out_losses: dict[int, float] = Field(
        default={}, description="Held-out losses of earlier epochs, for early stopping."
    )
    training: str = Field(
        description="Digest of what determines the weights; epochs of one training share it."
    )
    prices: Prices = Field(description="Prices that its profiles compute costs with.")
    attributes: dict[str, JsonValue] = Field(
        default={}, description="Further attributes of its checkpoints: licences and obligations."
    )


class Evaluate(Config):
    """Score checkpoints, each on the held-out split of the dataset that it was trained on."""

    task: Literal["evaluate"] = "evaluate"
    dataset: str
    checkpoints: dict[int, ArtifactRef] = Field(min_length=1, description="By epoch.")
    asset: Literal["evaluation", "champion_evaluation"] = Field(
        default="evaluation", description="The kind of artifact that the scores are published as."
    )
    tokenized_dataset: ArtifactRef | None = Field(
        default=None,
        description="The dataset on whose held-out split to score; each checkpoint's own if left "
        "out.",
    )


class Sample(Config):
    """Answer the family's sample prompts with checkpoints."""

    task: Literal["sample"] = "sample"
    dataset: str
    checkpoints: dict[int, ArtifactRef] = Field(min_length=1, description="By epoch.")


class ScoreSuites(Config):
    """Score checkpoints on the family's suites, and publish what was not scored before."""

    task: Literal["score_suites"] = "score_suites"
    dataset: str
    checkpoints: dict[int, ArtifactRef] = Field(min_length=1, description="By epoch.")
    suites: dict[str, ArtifactRef] = Field(description="The records of each suite, by its name.")


class ExportModel(Config):
    """Export the champion in the family's formats."""

    task: Literal["export"] = "export"
    dataset: str
    champion: ArtifactRef


Task = PrepareBaseModel | Tokenize | Train | Evaluate | Sample | ScoreSuites | ExportModel
TaskT = TypeVar("TaskT", bound=Task)
TaskT_co = TypeVar(
    "TaskT_co",
    bound=Task,
    covariant=True,
    default=Annotated[Task, Field(discriminator="task")],
)


class WorkerSpec(Config, Generic[TaskT_co]):
    """Everything that a worker knows; generic over its task."""

    family: ModelFamily
    task: TaskT_co
    store_url: str
    s3: S3Settings = Field(
        default=S3Settings(),
        description="The connection to S3; credentials are found where the worker runs.",
    )
    cache_dir: Path = Field(description="Folder of verified copies of artifacts.")
    cache_limit_bytes: int | None = Field(
        default=None, description="Limit of these copies; the cache grows if left out."
    )
    scratch_dir: Path = Field(
        description="Working folder of this run alone, on a fast disk of the worker's machine."
    )
    is_restartable: bool = Field(
        default=False,
        description="Whether a cluster may restart the worker with this document; it then resumes "
        "from what was published since.",
    )
    weights_bytes: int = Field(
        default=0,
        description="Size of the weights of the largest model that it scores or samples from; 0 "
        "if unknown.",
    )
    made_by: dict[str, str] = Field(
        description="Run id and code version of the orchestrator, for the artifacts' manifests."
    )

    def open_store(self) -> ArtifactStore:
        """Return the store that the worker reads from and publishes to."""
        return ArtifactStore(
            self.store_url,
            self.cache_dir,
            cache_limit_bytes=self.cache_limit_bytes,
            s3=self.s3,
        )


def has_task(spec: WorkerSpec, kind: type[TaskT]) -> TypeGuard[WorkerSpec[TaskT]]:
    """Whether a spec is for a kind of task."""
    return isinstance(spec.task, kind)


def read_spec(document: bytes) -> WorkerSpec:
    """Read a specification that was written as JSON.

    Raises:
        ConfigurationError: It is not one of this version.
    """
    try:
        return WorkerSpec.model_validate_json(document)
    except ValidationError as error:
        raise ConfigurationError(
            f"the worker's specification is not one that this version reads: {one_line(error)}; "
            "install the same version of dolly_assets where runs start and where workers run"
        ) from error
