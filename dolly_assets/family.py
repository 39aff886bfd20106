"""A model family: a base model and the way it is fine-tuned, as one folder under `defs/` declares it.

Orchestrator and worker share this description; the worker gets it as JSON in its spec.
"""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from dolly_assets.core.base import Config
from dolly_assets.core.errors import TrainingError
from dolly_assets.core.names import check_family_name
from dolly_assets.datasets.licenses import Use
from dolly_assets.generation.sample import DEFAULT_PROMPTS, Prompt
from dolly_assets.profiling.analysis.finding import ProfileLimits
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.training.base_model import BaseModelConfig
from dolly_assets.training.context import Context
from dolly_assets.training.recipe import Recipe

Owner = Annotated[str, Field(pattern=r"^(team:[\w.-]+|[^@\s:]+@[^@\s:]+\.[^@\s:]+)$")]


class KubernetesCompute(Config):
    """What a family asks of a cluster besides the rest of `compute`."""

    gpu_resource: str | None = Field(
        default=None, description="What its GPUs are called, if not as elsewhere."
    )
    ephemeral_storage_gib: float | None = Field(
        default=None, gt=0, description="Local disk per machine in GiB."
    )
    config: dict[str, dict[str, JsonValue]] = Field(
        default={},
        description="As in the tag dagster-k8s/config: container_config, pod_spec_config and so on.",
    )


class Compute(Config):
    """What the training of a family asks for."""

    nodes: int = Field(default=1, ge=1, description="Machines that train together.")
    gpus: int = Field(
        default=0, ge=0, description="GPUs per machine; 0 takes those that are there, if any."
    )
    cpu_ranks: int = Field(
        default=1, ge=1, description="Processes per machine where there is no GPU."
    )
    cpus: int = Field(default=2, ge=1, description="CPU cores per machine, asked of a cluster.")
    memory_gib: float = Field(
        default=8, gt=0, description="Host memory per machine in GiB, asked of a cluster."
    )
    save_minutes: float = Field(
        default=15, gt=0, description="Between saves of the state in the middle of an epoch."
    )
    hang_minutes: float = Field(
        default=10,
        gt=0,
        description="Without a step, at least, before a training counts as hung and is ended.",
    )
    device: str | None = Field(
        default=None, description="Kind of GPU, to plan for one that is not here: A100-80GB."
    )
    gpu_hour_usd: float | None = Field(
        default=None, ge=0, description="US dollars per GPU and hour, for the plan."
    )
    carbon_g_per_kwh: float | None = Field(
        default=None, ge=0, description="Grams of CO2 per kilowatt-hour there."
    )
    kubernetes: KubernetesCompute = Field(
        default=KubernetesCompute(), description="What it asks of a cluster."
    )


class Evaluation(Config):
    """How every epoch is scored and sampled."""

    examples: int = Field(
        default=200, ge=1, description="Held-out examples that exact match is scored on, at most."
    )
    max_new_tokens: int = Field(default=128, ge=1, description="Longest answer, in tokens.")
    batch_size: int = Field(default=16, ge=1, description="Examples scored or answered at once.")
    temperature: float = Field(
        default=0.7, ge=0, description="Temperature of the sample responses; 0 is greedy."
    )
    top_p: float = Field(default=0.95, gt=0, le=1, description="Nucleus of the sample responses.")
    prompts: tuple[Prompt, ...] = Field(
        default=DEFAULT_PROMPTS, min_length=1, description="Answered by every epoch."
    )


class Automation(Config):
    """What happens by itself when sensors are on."""

    datasets: tuple[str, ...] = Field(
        default=(),
        description="Names or patterns (`support_*`) of the datasets that the family follows.",
    )
    training: Literal["automatic", "after_approval", "never"] = Field(
        default="never",
        description="When new data is trained on: at once, when training_approval is materialized, or by hand.",
    )
    epochs: int | None = Field(
        default=None, ge=1, description="Epochs trained by themselves; all when left out."
    )

    @property
    def needs_approval(self) -> bool:
        """Whether somebody has to let a training begin."""
        return self.training == "after_approval"


class FamilyAttributes(Config):
    """What a family's YAML says under `attributes`."""

    description: str = Field(
        default="", description="What the family is, for readers of the asset graph."
    )
    use: Use = Field(
        default="non-commercial",
        description="What the models are for: decides which licences will do.",
    )
    owners: tuple[Owner, ...] = Field(
        default=(), description="Who answers for it: team:NAME or an e-mail address."
    )
    dataset: str = Field(
        description="The dataset that the family was made for; any other can be trained on too."
    )
    base_model: BaseModelConfig
    prompt_style: PromptStyle = Field(default_factory=PromptStyle)
    recipe: Recipe
    compute: Compute = Field(default_factory=Compute)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    automation: Automation = Field(default_factory=Automation)
    profile: ProfileLimits = Field(
        default_factory=ProfileLimits, description="When gpu_profile warns."
    )

    @model_validator(mode="after")
    def _automatic_epochs_exist(self) -> Self:
        if self.automation.epochs and self.automation.epochs > self.recipe.epochs:
            raise ValueError(
                f"automation.epochs {self.automation.epochs} is more than recipe.epochs {self.recipe.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _untrained_model_has_the_positions(self) -> Self:
        untrained = self.base_model.untrained
        context = Context.of(untrained.config) if untrained else None
        if context and context.is_fixed:
            try:
                context.check(self.recipe.max_length, "base_model.untrained")
            except TrainingError as error:
                raise ValueError(str(error)) from error
        return self


class ModelFamily(FamilyAttributes):
    """A family with its name: the folder's, and the prefix of its assets' keys."""

    name: str

    @classmethod
    def declared_in(cls, folder: Path, attributes: FamilyAttributes) -> Self:
        """Return the family that a folder's YAML declares; the folder's name is the family's.

        Raises:
            ConfigurationError: The folder's name cannot name a family.
        """
        resolved = {"base_model": attributes.base_model.resolved(folder)}
        return cls(name=check_family_name(folder.name), **{**dict(attributes), **resolved})

    def follows(self, dataset: str) -> bool:
        """Whether the family takes new data of this dataset by itself."""
        return any(fnmatchcase(dataset, pattern) for pattern in self.automation.datasets)
