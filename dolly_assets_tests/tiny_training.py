"""What a worker of the family `tiny` is given: base model, tokenized dataset, specs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import yaml
from dagster_pipes import PipesContext

from dolly_assets.family import FamilyAttributes, ModelFamily
from dolly_assets.planning.prices import Prices
from dolly_assets.registry.training import Training
from dolly_assets.storage.artifact import Artifact, ArtifactStore, artifact_name
from dolly_assets.worker.messages import MESSAGE, Message, Messenger
from dolly_assets.worker.spec import PrepareBaseModel, TaskT, Tokenize, Train, WorkerSpec, ref
from dolly_assets.worker.tasks.prepare_base_model import prepare_base_model
from dolly_assets.worker.tasks.tokenize import tokenize
from dolly_assets_tests.home import TINY_FAMILY

DATASET = "animals"
LEGS = {"four": ("cat", "dog", "cow"), "two": ("hen", "owl", "man"), "six": ("ant", "fly", "bee")}
QUESTIONS = ("How many legs has a {}?", "Legs of a {}?", "Count the legs of a {}.")
RAW = pa.Table.from_pylist(
    [
        {"instruction": question.format(animal), "context": "", "response": count, "category": ""}
        for question in QUESTIONS
        for count, animals in LEGS.items()
        for animal in animals
    ]
)


def tiny_family(**recipe: Any) -> ModelFamily:
    """The family `tiny`, with a changed recipe."""
    attributes = FamilyAttributes.model_validate(yaml.safe_load(TINY_FAMILY)["attributes"])
    changed = attributes.recipe.model_validate({**attributes.recipe.model_dump(), **recipe})
    return ModelFamily(name="tiny", **{**dict(attributes), "recipe": changed})


class Recorded:
    """Stands in for dagster_pipes' context: keeps what a worker reports."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def report_custom_message(self, payload: Any) -> None:
        self.messages.append(MESSAGE.validate_python(payload))

    @property
    def messenger(self) -> Messenger:
        return Messenger(cast(PipesContext, self), rank=0)


@dataclass(frozen=True)
class Workbench:
    """A store with what training starts from, and room to run in."""

    folder: Path
    family: ModelFamily

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "store"), self.folder / "cache")

    def spec(
        self, task: TaskT, scratch: Path, family: ModelFamily | None = None
    ) -> WorkerSpec[TaskT]:
        return WorkerSpec(
            family=family or self.family,
            task=task,
            store_url=str(self.folder / "store"),
            cache_dir=self.folder / "cache",
            scratch_dir=scratch,
            made_by={"run_id": "test"},
        )

    def latest(self, asset: str, *partition: str) -> Artifact:
        artifact = self.store.latest(artifact_name([self.family.name, asset], *partition))
        assert artifact
        return artifact

    def train(self, first: int, last: int, *, resume_from: Artifact | None = None) -> Train:
        base_model, tokenized = self.latest("base_model"), self.latest("tokenized_dataset", DATASET)
        return Train(
            dataset=DATASET,
            epochs=tuple(range(first, last + 1)),
            base_model=ref(base_model),
            tokenized_dataset=ref(tokenized),
            resume_from=ref(resume_from) if resume_from else None,
            training=Training(self.family, DATASET, base_model, tokenized).digest,
            prices=Prices.read(),
        )


def make_workbench(folder: Path, answers: str = "exact") -> Workbench:
    """Publishes a base model and a tokenized dataset, by the worker's own tasks."""
    workbench = Workbench(folder, tiny_family(held_out_examples=3))
    raw_folder = folder / "raw"
    raw_folder.mkdir()
    import pyarrow.parquet as pq

    pq.write_table(RAW, raw_folder / "data.parquet")
    raw = workbench.store.publish(
        artifact_name(["raw_dataset"], DATASET),
        raw_folder,
        kind="raw_dataset",
        attributes={"answers": answers, "rows": RAW.num_rows},
    )
    messenger = Recorded().messenger
    prepare_base_model(
        workbench.spec(PrepareBaseModel(), folder / "prepare"), workbench.store, messenger
    )
    task = Tokenize(
        dataset=DATASET, raw_dataset=ref(raw), base_model=ref(workbench.latest("base_model"))
    )
    tokenize(workbench.spec(task, folder / "tokenize"), workbench.store, messenger)
    return workbench
