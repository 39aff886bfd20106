"""LoRA: the base model stays as it is, and low-rank matrices beside some of its own are trained.

Hu et al., 2021, https://arxiv.org/abs/2106.09685; computed by peft. These matrices, and the rows of
tokens that the base model did not have, are the adapter. The package knows folders and models, not
artifacts.

- `settings.py`: the settings of a recipe.
- `adapter.py`: a model with an adapter to train.
- `new_tokens.py`: which tokens are new to the base model, and how their rows are trained.
- `merge.py`: a trained adapter's weights, merged tensor by tensor.
"""

from dolly_assets.training.lora.adapter import add_adapter, trained_parameters
from dolly_assets.training.lora.merge import ADAPTER_CONFIG, MERGED, finish, with_adapter
from dolly_assets.training.lora.settings import LoraSettings

__all__ = [
    "ADAPTER_CONFIG",
    "MERGED",
    "LoraSettings",
    "add_adapter",
    "finish",
    "trained_parameters",
    "with_adapter",
]
