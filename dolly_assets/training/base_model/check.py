"""What a model has to be before it is prepared: finite weights, a forward pass that runs, causal.

Knows nothing of where the model comes from.
"""

from typing import TYPE_CHECKING

from dolly_assets.core.errors import BaseModelError
from dolly_assets.training.base_model.load import reason

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_TOKENS = 8


def check(model: "PreTrainedModel", name: str) -> None:
    """Check that a model can be trained at all.

    Args:
        model: A model that was loaded or built.
        name: What messages call it.

    Raises:
        BaseModelError: A weight is NaN or infinite, a call of the model fails, or a token's
            prediction depends on later tokens.
    """
    _check_finite(model, name)
    try:
        is_causal = _is_causal(model)
    except Exception as error:  # each architecture fails in its own way
        raise BaseModelError(
            f"{name}: its configuration builds a {type(model).__name__} that cannot run on tokens "
            f"alone ({reason(error)}); use another model or correct its config.json"
        ) from error
    if not is_causal:
        raise BaseModelError(
            f"{name}: not a causal language model: {model.config.model_type} sees the tokens that "
            "it has to predict; name a decoder, such as EleutherAI/pythia-160m"
        )


def _check_finite(model: "PreTrainedModel", name: str) -> None:
    """Raise BaseModelError for weights that no training recovers from."""
    for key, weight in model.named_parameters():
        if weight.is_floating_point() and not weight.isfinite().all():
            bad = int(weight.numel() - weight.isfinite().sum())
            raise BaseModelError(
                f"{name}: damaged weights: {bad:,} of the {weight.numel():,} values of {key} are "
                "NaN or infinite; download or export the model again"
            )


def _is_causal(model: "PreTrainedModel") -> bool:
    """Whether the first position sees no later ones, other than in BERT.

    Transformers loads such models as causal ones, too. A causal mask makes that gradient exactly
    zero, in every dtype, so there is no tolerance to choose.
    """
    import torch

    token_ids = torch.arange(_TOKENS)[None]
    plain = model(input_ids=token_ids, use_cache=False).logits
    if plain.shape[:2] != token_ids.shape:
        raise ValueError(f"it gives logits of shape {tuple(plain.shape)} for {_TOKENS} tokens")
    if not plain.isfinite().all():
        raise ValueError("it gives NaN or infinite logits")
    embeddings = model.get_input_embeddings()(token_ids).detach().requires_grad_()
    try:
        with torch.enable_grad():
            logits: torch.Tensor = model(inputs_embeds=embeddings, use_cache=False).logits
        (gradient,) = torch.autograd.grad(logits[0, 0].float().square().sum(), embeddings)
    except Exception:  # noqa: BLE001 some accept token ids only
        return _ignores_later_tokens(model, token_ids)
    return not gradient[0, 1:].any()


def _ignores_later_tokens(model: "PreTrainedModel", token_ids: "torch.Tensor") -> bool:
    """Whether the first logits stay the same, apart from rounding, when later tokens change."""
    import torch

    other = token_ids.clone()
    other[0, 1:] = other[0, 1:].flip(0)
    was_training = model.training
    model.eval()  # dropout would change them
    with torch.no_grad():
        before, after = (
            model(input_ids=each, use_cache=False).logits[0].float() for each in (token_ids, other)
        )
    model.train(was_training)
    first, later = ((before - after)[index].abs().max() for index in (0, _TOKENS // 2))
    return bool(first <= 1e-3 * later)
