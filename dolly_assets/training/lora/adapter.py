"""A model with an adapter to train, as peft makes it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from dolly_assets.core.errors import TrainingError
from dolly_assets.core.text import one_line
from dolly_assets.training import seams
from dolly_assets.training.lora.new_tokens import rows_to_train, train_rows_beside_frozen_layers
from dolly_assets.training.lora.settings import LoraSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_adapter(
    model: "PreTrainedModel", settings: LoraSettings, seed: int, new_tokens: Sequence[int] = ()
) -> "PreTrainedModel":
    """Return the model with an adapter that has no effect yet; only the adapter is trained.

    Args:
        model: The base model.
        settings: The adapter's.
        seed: Seed of the new matrices.
        new_tokens: Ids of the tokens whose rows are trained, if the settings ask for that.

    Raises:
        TrainingError: The model has no layers of these names, or they are those of the tokens.
    """
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    rows = rows_to_train(model, new_tokens if settings.train_new_tokens else ())
    saved = _saved_layers(model, settings)
    rows = {layer: ids for layer, ids in rows.items() if layer not in saved}
    _check_apart(settings, rows)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        target_modules=list(settings.target_modules) if settings.target_modules else "all-linear",
        trainable_token_indices=rows or None,
        modules_to_save=list(settings.modules_to_save) if settings.modules_to_save else None,
    )
    with torch.random.fork_rng(devices=[]), seams.token_rows_from_any_device():
        torch.manual_seed(seed)  # the same on every rank
        try:
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
        except ValueError as error:
            raise TrainingError(f"recipe.lora.target_modules: {one_line(error)}") from error
    train_rows_beside_frozen_layers(adapted)
    seams.gather_weights_of_dora(adapted)
    return cast("PreTrainedModel", adapted)


def trained_parameters(model: "PreTrainedModel") -> int:
    """Return the number of parameters that are trained, sharded by ZeRO or not."""
    return sum(
        seams.parameter_size(weight) for weight in model.parameters() if weight.requires_grad
    )


def _saved_layers(model: "PreTrainedModel", settings: LoraSettings) -> set[str]:
    """Return the names of the layers that are trained whole.

    Raises:
        TrainingError: There are none of a name, or the layer shares its weights with another one.
    """
    found: set[str] = set()
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    is_tied = bool(model.config.get_text_config().tie_word_embeddings)
    for wanted in settings.modules_to_save or ():
        of_it = {n: m for n, m in model.named_modules() if f".{n}".endswith(f".{wanted}")}
        if not of_it:
            raise TrainingError(
                f"recipe.lora.modules_to_save: the model has no layer {wanted}: name one as "
                "model.named_modules() does, such as lm_head"
            )
        if is_tied and any(layer in tables for layer in of_it.values()):
            raise TrainingError(
                f"recipe.lora.modules_to_save: {wanted} shares its weights with another layer of "
                "this model, which would stay as it is: leave it out, or train the whole model"
            )
        found |= set(of_it)
    return found


def _check_apart(settings: LoraSettings, rows: dict[str, list[int]]) -> None:
    """Raise TrainingError if a layer would get low-rank matrices and trained rows."""
    targets = settings.target_modules or ()
    for layer in rows:
        if any(f".{layer}".endswith(f".{target}") for target in targets):
            raise TrainingError(
                f"recipe.lora.target_modules: {layer} also has the rows of new tokens, which are "
                "trained as they are: leave it out, or set recipe.lora.train_new_tokens to false"
            )
