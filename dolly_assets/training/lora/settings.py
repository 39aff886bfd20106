"""The settings of an adapter in a recipe."""

from pydantic import Field

from dolly_assets.core.base import Config


class LoraSettings(Config):
    """Which matrices get a low-rank companion, and how large the companions are."""

    rank: int = Field(ge=1, description="Rank of the low-rank matrices.")
    alpha: float = Field(
        gt=0,
        description="Scale of their output: it is multiplied by alpha/rank, or with `rslora` by "
        "alpha/√rank.",
    )
    rslora: bool = Field(
        default=False,
        description="Whether to scale by the square root of the rank, so that high ranks learn as "
        "fast as low ones.",
    )
    dora: bool = Field(
        default=False,
        description="Whether to train the length of each row of the adapted matrices beside its "
        "direction (DoRA), which low ranks may gain by and which makes steps slower.",
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout on the input of the low-rank matrices."
    )
    target_modules: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Names of the linear layers to adapt; all but the output layer by default.",
    )
    modules_to_save: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Names of layers to train whole, such as lm_head; the adapter has a copy of "
        "each. At zero_stage 0 to 2.",
    )
    train_new_tokens: bool = Field(
        default=True,
        description="Whether to train the embeddings of special tokens that the base model did not "
        "have. Without them a model cannot learn to end an answer.",
    )
    merge: bool = Field(
        default=False,
        description="Whether to publish merged weights of the whole model beside the adapter.",
    )
