"""The API for notebooks and scripts: the store, the families, a model that answers, and tables.

It opens what the command line opens, by the same environment variables, and computes nothing
itself. Tables are pandas DataFrames; a model needs the packages of the worker, the families those
of Dagster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dolly_assets.core.environment import Environment
from dolly_assets.core.errors import ArtifactError, ConfigurationError
from dolly_assets.registry.address import ArtifactAddress
from dolly_assets.registry.attributes import CheckpointAttributes, EvaluationAttributes
from dolly_assets.registry.inputs import is_made_from
from dolly_assets.registry.kinds import EVALUATION, GPU_PROFILE, MODEL_CHECKPOINT
from dolly_assets.registry.queries import history, latest, newest, required
from dolly_assets.storage import Artifact, ArtifactStore, opening

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dolly_assets.family import ModelFamily
    from dolly_assets.generation.prompt import Prompt
    from dolly_assets.tokenization.prompt_style import PromptStyle
    from dolly_assets.tokenization.templates.encoder import Encoder

__all__ = ["Model", "epochs", "families", "open_model", "open_store", "steps"]

STEPS_FILE = "steps.parquet"
PHASES = ("data", "forward", "backward", "optimizer", "wait")
TOKENS = ("real_tokens", "processed_tokens", "labelled_tokens")
STEP_COLUMNS = (
    "epoch",
    "step",
    "loss",
    "learning_rate",
    "grad_norm",
    *TOKENS,
    "seconds",
    *(f"{phase}_seconds" for phase in PHASES),
)


@dataclass(frozen=True)
class Model:
    """The model of a published checkpoint, on the fastest device of this machine.

    Attributes:
        checkpoint: The artifact that it was loaded from; its manifest holds recipe, licences and
            digests.
        model: The model, for generating as transformers does.
        tokenizer: Its tokenizer.
        prompt_style: The wording of the template `dolly`.
        encoder: How a conversation becomes a prompt, in the template that the model was trained
            with.
    """

    checkpoint: Artifact
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    prompt_style: "PromptStyle"
    encoder: "Encoder"

    def answer(
        self,
        instruction: str,
        context: str = "",
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.7,
        top_p: float = 0.95,
        seed: int = 0,
    ) -> str:
        """Answer one instruction. The same instruction, context and seed give the same answer.

        Args:
            instruction: The task.
            context: What the task is about, where it needs more than its instruction.
            max_new_tokens: The answer ends here at the latest.
            temperature: How far the answer may be from the likeliest one; 0 always gives that.
            top_p: The share of the probability that is drawn from.
            seed: Of the random numbers.
        """
        return self.answers(
            [(instruction, context)],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )[0]

    def answers(
        self,
        prompts: Sequence[str | tuple[str, str] | Sequence[Mapping[str, Any]]],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.7,
        top_p: float = 0.95,
        seed: int = 0,
    ) -> list[str]:
        """Answer each prompt: an instruction, an instruction and its context, or messages.

        Messages are a list of dictionaries with `role` and `content`, the last of which the model
        answers. An answer does not depend on the other prompts. See `answer` for the settings.
        """
        from dolly_assets.generation.sample import sample_responses

        return sample_responses(
            self.model,
            self.tokenizer,
            self.encoder,
            [_prompt(each) for each in prompts],
            seed=seed,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
        )


def open_store(url: str | None = None) -> ArtifactStore:
    """Open the store that `DOLLY_STORE` names, as the command line does.

    Args:
        url: Another store, as a folder or an `s3://` URL.
    """
    environment = Environment.read()
    return opening.open_store(
        environment.model_copy(update={"store_url": url}) if url else environment
    )


def families() -> "dict[str, ModelFamily]":
    """Return the declared model families, by name.

    Raises:
        ConfigurationError: A YAML file is wrong; the message names the file, the line and the key.
    """
    from dolly_assets.pipeline.session import Session

    return Session(Environment.read()).families


def open_model(
    family: str, *, dataset: str, epoch: int, store: ArtifactStore | None = None
) -> Model:
    """Load the newest checkpoint of an epoch.

    Args:
        family: The model family.
        dataset: The dataset that it was trained on.
        epoch: The epoch; 0 is the base model before any training.
        store: Where the checkpoint is; without one, the store that `DOLLY_STORE` names.

    Raises:
        ConfigurationError: There is no such family.
        ArtifactError: The epoch is not in the store.
    """
    from dolly_assets.generation.model import load_with_template
    from dolly_assets.registry.model_folders import fetch

    known = families()
    if family not in known:
        raise ConfigurationError(
            f"unknown model family {family!r}; known: {', '.join(sorted(known))}"
        )
    store = store or open_store()
    checkpoint = required(store, MODEL_CHECKPOINT.address(family, dataset, epoch))
    weights, adapter, template = fetch(store, checkpoint)
    style = known[family].prompt_style
    loaded = load_with_template(weights, style, template=template, adapter=adapter)
    return Model(checkpoint, loaded.model, loaded.tokenizer, style, loaded.encoder)


def _prompt(asked: str | tuple[str, str] | Sequence[Mapping[str, Any]]) -> "Prompt":
    from dolly_assets.generation.prompt import Prompt

    if isinstance(asked, str):
        return Prompt(instruction=asked)
    if isinstance(asked, tuple):
        instruction, context = map(str, asked)
        return Prompt(instruction=instruction, context=context)
    return Prompt.model_validate({"messages": [*asked]})


def epochs(family: str, dataset: str, *, store: ArtifactStore | None = None) -> "pd.DataFrame":
    """Return one row for each epoch of the newest training, epoch 0 being the base model.

    The columns are `loss` (mean over the epoch's steps), `held_out_loss`, `perplexity` and
    `exact_match` as scored after it, `tokens_per_second`, `training_seconds`, `published_at`, and
    `digest`, of the checkpoint. What was not measured is missing.

    Raises:
        ArtifactError: The family was not trained on the dataset.
    """
    import pandas as pd

    store = store or open_store()
    rows = []
    for epoch, checkpoint in _newest_training(store, family, dataset).items():
        trained = CheckpointAttributes.of(checkpoint)
        evaluation = latest(store, EVALUATION.address(family, dataset, epoch))
        is_scored = evaluation and is_made_from(evaluation, checkpoint)
        scores = EvaluationAttributes.of(evaluation) if evaluation and is_scored else None
        rows.append(
            {
                "epoch": epoch,
                "loss": trained.loss,
                "held_out_loss": scores and scores.held_out_loss,
                "perplexity": scores and scores.perplexity,
                "exact_match": scores and scores.exact_match,
                "tokens_per_second": trained.tokens_per_second,
                "training_seconds": trained.training_seconds,
                "published_at": checkpoint.manifest.created_at,
                "digest": checkpoint.digest,
            }
        )
    return pd.DataFrame(rows).set_index("epoch")


def steps(family: str, dataset: str, *, store: ArtifactStore | None = None) -> "pd.DataFrame":
    """Return one row for each optimizer step of every epoch of the newest training, oldest first.

    The columns are `epoch`, `step`, `loss`, `learning_rate`, `grad_norm`; tokens of all ranks
    together: `real_tokens`, `processed_tokens` with padding, `labelled_tokens` that the loss
        counts; `seconds` from the first rank's start to the
    last one's end, and the phases' seconds as means over the ranks. What was not measured is
    missing.

    Raises:
        ArtifactError: The family was not trained on the dataset.
    """
    import pyarrow as pa

    store = store or open_store()
    tables = [
        _steps_of(store, checkpoint, epoch)
        for epoch, checkpoint in _newest_training(store, family, dataset).items()
        if epoch  # the base model has no steps
    ]
    if not tables:
        raise ArtifactError(f"no epoch of {family} on {dataset} is in the store {store.url}")
    return pa.concat_tables(tables, promote_options="permissive").to_pandas()


def _newest_training(store: ArtifactStore, family: str, dataset: str) -> dict[int, Artifact]:
    """Return the checkpoints of the training that published one last, by epoch."""
    checkpoints = [
        checkpoint
        for checkpoint in newest(store, MODEL_CHECKPOINT, family)
        if ArtifactAddress.parse(checkpoint.name).dataset == dataset
    ]
    if not checkpoints:
        raise ArtifactError(
            f"no epoch of {family} on {dataset} is in the store {store.url}; run: "
            f"dolly train --model {family} --dataset {dataset}"
        )
    last = max(checkpoints, key=lambda checkpoint: checkpoint.manifest.created_at)
    training = CheckpointAttributes.of(last).training
    known = [(CheckpointAttributes.of(checkpoint), checkpoint) for checkpoint in checkpoints]
    return {
        attributes.epoch: checkpoint
        for attributes, checkpoint in sorted(known, key=lambda pair: pair[0].epoch)
        if attributes.training == training
    }


def _steps_of(store: ArtifactStore, checkpoint: Artifact, epoch: int) -> "pa.Table":
    """Return the steps of an epoch, with STEP_COLUMNS."""
    import pyarrow as pa

    steps = checkpoint.read_table(STEPS_FILE)
    if "real_tokens" in steps.column_names:
        steps = steps.append_column("seconds", _seconds(steps))
    elif profile := _profile_of(store, checkpoint):
        # Until 0.2.0 a checkpoint's steps had no tokens: they were in the profile, one row per
        # rank.
        measured = _of_all_ranks(profile.read_table(STEPS_FILE))
        steps = steps.join(measured, "step").sort_by("step")
    known = dict(zip(steps.column_names, steps.columns, strict=True))
    missing = pa.nulls(steps.num_rows)
    known["epoch"] = pa.repeat(epoch, steps.num_rows)
    return pa.table({name: known.get(name, missing) for name in STEP_COLUMNS})


def _profile_of(store: ArtifactStore, checkpoint: Artifact) -> Artifact | None:
    """Return the profile of the same epoch of the same training."""
    at = ArtifactAddress.parse(checkpoint.name)
    profiles = history(store, GPU_PROFILE.address(at.family, at.dataset, at.epoch))
    training = CheckpointAttributes.of(checkpoint).training
    return next(
        (item for item in profiles if item.manifest.attributes.get("training") == training), None
    )


def _of_all_ranks(rows: "pa.Table") -> "pa.Table":
    """Sum up a profile's rows, one per step and rank, as a checkpoint of today holds them."""
    phases = [f"{phase}_seconds" for phase in PHASES]
    summed = rows.group_by("step").aggregate(
        [
            *((name, "sum") for name in TOKENS),
            *((name, "mean") for name in phases),
            ("started_at", "min"),
            ("ended_at", "max"),
        ]
    )
    names = {f"{name}_sum": name for name in TOKENS} | {f"{name}_mean": name for name in phases}
    names |= {"started_at_min": "started_at", "ended_at_max": "ended_at"}
    summed = summed.rename_columns({"step": "step", **names})
    return summed.append_column("seconds", _seconds(summed)).drop_columns(
        ["started_at", "ended_at"]
    )


def _seconds(steps: "pa.Table") -> "pa.Array":
    import pyarrow as pa

    return pa.array(steps["ended_at"].to_numpy() - steps["started_at"].to_numpy())
