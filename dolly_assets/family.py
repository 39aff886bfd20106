"""A model family: a base model and how it is fine-tuned, as a folder under `defs/` declares it.

The orchestrator and the worker share this description; the worker receives it as JSON in its spec.
It knows settings, and nothing of stores, artifacts or Dagster.
"""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError, TrainingError
from dolly_assets.core.names import check_family_name
from dolly_assets.datasets.licenses import Use
from dolly_assets.exporting import Export
from dolly_assets.generation.answer import Batching
from dolly_assets.generation.prompt import DEFAULT_PROMPTS, Prompt
from dolly_assets.judging import Judge
from dolly_assets.profiling.analysis.finding import ProfileLimits
from dolly_assets.scoring import ChampionRule
from dolly_assets.scoring.rule import TITLES
from dolly_assets.suites import Suite, SuiteName
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.templates import Labels, TemplateFile
from dolly_assets.tokenization.templates.settings import NAMES, is_known
from dolly_assets.training.base_model import BaseModelConfig
from dolly_assets.training.context import Context
from dolly_assets.training.recipe import Recipe

Owner = Annotated[str, Field(pattern=r"^(team:[\w.-]+|[^@\s:]+@[^@\s:]+\.[^@\s:]+)$")]


class KubernetesCompute(Config):
    """What a family requests from a cluster besides the rest of `compute`."""

    gpu_resource: str | None = Field(
        default=None,
        description="Resource name of its GPUs, if it differs from the cluster's default.",
    )
    ephemeral_storage_gib: float | None = Field(
        default=None, gt=0, description="Local disk to request per machine, in GiB."
    )
    config: dict[str, dict[str, JsonValue]] = Field(
        default={},
        description="Settings as in the tag dagster-k8s/config: container_config, pod_spec_config "
        "and so on.",
    )


class Compute(Config):
    """The resources that the training of a family needs."""

    nodes: int = Field(default=1, ge=1, description="Number of machines that train together.")
    gpus: int = Field(
        default=0,
        ge=0,
        description="GPUs per machine; 0 uses whatever GPUs the machine has, if any.",
    )
    cpu_ranks: int = Field(default=1, ge=1, description="Processes per machine that has no GPU.")
    cpus: int = Field(default=2, ge=1, description="CPU cores to request per machine of a cluster.")
    memory_gib: float = Field(
        default=8, gt=0, description="Host memory to request per machine of a cluster, in GiB."
    )
    save_minutes: float = Field(
        default=15, gt=0, description="Minutes between saves of the training state within an epoch."
    )
    hang_minutes: float = Field(
        default=10,
        gt=0,
        description="Minutes without a step after which a training counts as hung and is stopped; "
        "it is never less than several steps take.",
    )
    device: str | None = Field(
        default=None,
        description="Kind of GPU to plan for, such as A100-80GB, if it is not this machine's.",
    )
    gpu_hour_usd: float | None = Field(
        default=None, ge=0, description="Price per GPU and hour in US dollars, for the plan."
    )
    carbon_g_per_kwh: float | None = Field(
        default=None,
        ge=0,
        description="Grams of CO2 per kilowatt-hour where it trains, for the plan.",
    )
    kubernetes: KubernetesCompute = Field(
        default=KubernetesCompute(), description="What it requests from a Kubernetes cluster."
    )


class Evaluation(Config):
    """How every epoch is scored and sampled."""

    examples: int = Field(
        default=200,
        ge=1,
        description="Largest number of held-out examples that exact match is scored on.",
    )
    max_new_tokens: int = Field(
        default=128, ge=1, description="Maximum length of an answer, in tokens."
    )
    batch_size: int = Field(
        default=16, ge=1, description="Number of examples that are scored or answered at once."
    )
    batching: Batching = Field(
        default="static",
        description="How examples are answered: static, a batch at a time, or continuous, where an "
        "answered one makes room for the next, which pays where answers differ in length.",
    )
    memorization_records: int = Field(
        default=64,
        ge=0,
        description="How many training records, and as many held-out ones, are probed for being "
        "reproduced verbatim; 0 probes none.",
    )
    temperature: float = Field(
        default=0.7, ge=0, description="Temperature of the sample responses; 0 decodes greedily."
    )
    top_p: float = Field(
        default=0.95, gt=0, le=1, description="Nucleus size (top-p) of the sample responses."
    )
    prompts: tuple[Prompt, ...] = Field(
        default=DEFAULT_PROMPTS, min_length=1, description="Prompts that every epoch answers."
    )
    automatic: bool = Field(
        default=True,
        description="Whether the automation sensor scores, samples and compares every epoch that "
        "is trained, on any dataset and however it was started.",
    )
    suites: dict[SuiteName, Suite] = Field(
        default={},
        description="Name -> suite that the base model and every epoch are scored on; "
        "`general: {}` is bundled.",
    )
    judge: Judge | None = Field(
        default=None,
        description="A language model that compares every epoch's answers with the base model's.",
    )

    def resolved(self, folder: Path) -> Self:
        """Return it with the files of its suites read and found right.

        Args:
            folder: What relative paths count from.

        Raises:
            ConfigurationError: A suite is wrong; the text names its file and line.
        """
        suites = {name: suite.resolved(name, folder) for name, suite in self.suites.items()}
        return self.model_copy(update={"suites": suites})


class Automation(Config):
    """What is automated when the sensors are on."""

    datasets: tuple[str, ...] = Field(
        default=(),
        description="Names or patterns (`support_*`) of the datasets that the family follows.",
    )
    training: Literal["automatic", "after_approval", "never"] = Field(
        default="never",
        description="When new data is trained on: at once, when training_approval is materialized, "
        "or only by hand.",
    )
    epochs: int | None = Field(
        default=None,
        ge=1,
        description="Number of epochs that are trained automatically; all if left out.",
    )

    @property
    def needs_approval(self) -> bool:
        """Whether a training has to be approved before it starts."""
        return self.training == "after_approval"


class FamilyAttributes(Config):
    """What a family's YAML declares under `attributes`."""

    description: str = Field(
        default="", description="What the family is, for readers of the asset graph."
    )
    use: Use = Field(
        default="non-commercial",
        description="What the models are for; determines which licences are acceptable.",
    )
    owners: tuple[Owner, ...] = Field(
        default=(), description="Who is responsible: team:NAME or an e-mail address."
    )
    dataset: str = Field(
        description="The dataset that the family was made for; it can be trained on any other, too."
    )
    base_model: BaseModelConfig
    template: TemplateFile | str | None = Field(
        default=None,
        description="The chat template: base (the base model's own), dolly, alpaca, chatml, or a "
        "Jinja file beside the YAML, such as ./chat.jinja. If left out, it is the base model's own "
        "where it has one and prompt_style is not given, and dolly otherwise.",
    )
    prompt_style: PromptStyle = Field(
        default_factory=PromptStyle, description="The wording of the template dolly."
    )
    labels: Labels = Field(
        default_factory=Labels, description="Which tokens of a conversation are trained."
    )
    recipe: Recipe
    compute: Compute = Field(default_factory=Compute)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    champion: ChampionRule = Field(
        default_factory=ChampionRule, description="When an epoch replaces the champion."
    )
    export: Export | None = Field(
        default=None, description="The formats that the champion is exported in."
    )
    automation: Automation = Field(default_factory=Automation)
    profile: ProfileLimits = Field(
        default_factory=ProfileLimits,
        description="Limits beyond which the checks of gpu_profile warn.",
    )

    @model_validator(mode="after")
    def _template_is_known(self) -> Self:
        if isinstance(self.template, str) and not is_known(self.template):
            raise ValueError(
                f"template {self.template!r} is none of {', '.join(NAMES)}, and no path: begin a "
                "file beside the YAML with ./ or let its name end in .jinja"
            )
        if self.template not in (None, "dolly") and self.prompt_style != PromptStyle():
            raise ValueError(
                "prompt_style is the wording of the template dolly: leave it out, or set template "
                "to dolly"
            )
        return self

    @model_validator(mode="after")
    def _suites_of_the_champion_exist(self) -> Self:
        for name in self.champion.suites_not_to_lose:
            if name not in self.evaluation.suites:
                raise ValueError(
                    f"champion.may_not_lose names {name!r}, which is neither a score "
                    f"({', '.join(TITLES)}) nor a suite of evaluation.suites"
                )
        return self

    @model_validator(mode="after")
    def _adapter_is_trained(self) -> Self:
        if self.export and "lora" in self.export.formats and self.recipe.lora is None:
            raise ValueError(
                "export.formats names lora, and the recipe trains all weights: leave it out, or "
                "set recipe.lora"
            )
        return self

    @model_validator(mode="after")
    def _automatic_epochs_exist(self) -> Self:
        if self.automation.epochs and self.automation.epochs > self.recipe.epochs:
            raise ValueError(
                f"automation.epochs {self.automation.epochs} is more than recipe.epochs "
                f"{self.recipe.epochs}"
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
    """A family with its name, which is its folder's, and the prefix of its assets' keys."""

    name: str

    @classmethod
    def declared_in(cls, folder: Path, attributes: FamilyAttributes) -> Self:
        """Return the family that a folder's YAML declares; the folder's name is the family's.

        Raises:
            ConfigurationError: The folder's name cannot name a family, or its template's file
                or a suite cannot be read.
        """
        template = attributes.template
        if isinstance(template, str) and template not in NAMES:
            template = TemplateFile.read(template, folder)
        if template is None and "prompt_style" in attributes.model_fields_set:
            template = "dolly"
        resolved = {
            "base_model": attributes.base_model.resolved(folder),
            "evaluation": attributes.evaluation.resolved(folder),
            "template": template,
        }
        return cls(name=check_family_name(folder.name), **{**dict(attributes), **resolved})

    def follows(self, dataset: str) -> bool:
        """Whether automation keeps the family up to date with a dataset."""
        return any(fnmatchcase(dataset, pattern) for pattern in self.automation.datasets)

    def ranks_on(self, gpus: int) -> int:
        """Return how many processes train the family on a machine with that many GPUs.

        Raises:
            ConfigurationError: The family requests more GPUs than there are.
            TrainingError: The global batch cannot be divided among the requested ranks.
        """
        wanted = self.compute.gpus
        if wanted > gpus:
            raise ConfigurationError(
                f"{self.name} requests {wanted} GPUs and this machine has {gpus}: set "
                f"compute.gpus in its YAML to at most {gpus}; 0 uses all GPUs, or the CPU if there "
                "are none"
            )
        if wanted or not gpus:
            ranks = wanted or self.compute.cpu_ranks
            self.recipe.accumulation_steps(ranks)
            return ranks
        micro_batches = self.recipe.global_batch_size // self.recipe.micro_batch_size
        return max(ranks for ranks in range(1, gpus + 1) if micro_batches % ranks == 0)
