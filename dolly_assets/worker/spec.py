"""What a worker is told: one JSON document.

The contract between the orchestrator and the machines with devices.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from dolly_assets.core.base import Config
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
    """The artifact as a worker is told of it."""
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
        default=None, description="The checkpoint of the epoch before the first."
    )
    state: ArtifactRef | None = Field(
        default=None, description="A state within the first epoch, to go on from."
    )
    training: str = Field(
        description="Digest of what decides the weights; epochs of one training share it."
    )
    prices: Prices = Field(
        default_factory=Prices.read, description="What its profiles reckon with."
    )
    facts: dict[str, JsonValue] = Field(
        default={}, description="What its checkpoints say besides: licences and obligations."
    )


class Evaluate(Config):
    """Score checkpoints, each on the held-out split of the dataset that it was trained on."""

    task: Literal["evaluate"] = "evaluate"
    dataset: str
    checkpoints: dict[int, ArtifactRef] = Field(min_length=1, description="By epoch.")
    asset: Literal["evaluation", "champion_evaluation"] = Field(
        default="evaluation", description="What the scores are published as."
    )
    tokenized_dataset: ArtifactRef | None = Field(
        default=None,
        description="The dataset whose held-out split is scored on; each checkpoint's own if left out.",
    )


class Sample(Config):
    """Answer the family's sample prompts with checkpoints."""

    task: Literal["sample"] = "sample"
    dataset: str
    checkpoints: dict[int, ArtifactRef] = Field(min_length=1, description="By epoch.")


Task = PrepareBaseModel | Tokenize | Train | Evaluate | Sample


class WorkerSpec(Config):
    """Everything that a worker knows."""

    family: ModelFamily
    task: Annotated[Task, Field(discriminator="task")]
    store_url: str
    s3: S3Settings = Field(
        default=S3Settings(), description="How S3 is reached; credentials are found where it runs."
    )
    cache_dir: Path = Field(description="Where this machine keeps verified copies of artifacts.")
    cache_limit_bytes: int | None = Field(
        default=None, description="Limit of these copies; the cache grows if left out."
    )
    scratch_dir: Path = Field(
        description="A folder of this run's own, on a fast disk of this machine."
    )
    is_restartable: bool = Field(
        default=False,
        description="A cluster starts it again with this document: what was published since counts.",
    )
    made_by: dict[str, str] = Field(
        description="Who asked: run id and code version, for the artifacts' manifests."
    )

    def open_store(self) -> ArtifactStore:
        """Return the store that the worker reads from and publishes to."""
        return ArtifactStore(
            self.store_url,
            self.cache_dir,
            cache_limit_bytes=self.cache_limit_bytes,
            s3=self.s3,
        )
