"""The context of a model: how many tokens an example may have, by the model's configuration.

Learned positions are rows of a table, and there are no more of them; rotary and other computed
positions go on, though the model has not seen them. Needs neither torch nor transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from dolly_assets.core.errors import TrainingError

# What transformers' architectures call the same thing.
_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_target_positions",
    "max_seq_len",
    "seq_length",
    "n_ctx",
)
# Architectures whose positions are a table, with its rows by default.
_TABLES = {
    "bart": 1024,
    "bert": 512,
    "bert-generation": 512,
    "big_bird": 4096,
    "bigbird_pegasus": 4096,
    "biogpt": 1024,
    "blenderbot": 128,
    "blenderbot-small": 512,
    "camembert": 512,
    "codegen": 2048,
    "ctrl": 256,
    "data2vec-text": 512,
    "electra": 512,
    "ernie": 512,
    "git": 1024,
    "gpt-sw3": 1024,
    "gpt2": 1024,
    "gpt_bigcode": 1024,
    "gpt_neo": 2048,
    "gptj": 2048,
    "marian": 1024,
    "mbart": 1024,
    "megatron-bert": 512,
    "mpt": 2048,
    "mvp": 1024,
    "openai-gpt": 512,
    "opt": 2048,
    "pegasus": 1024,
    "plbart": 1024,
    "prophetnet": 512,
    "rembert": 512,
    "roberta": 512,
    "roberta-prelayernorm": 512,
    "roc_bert": 512,
    "roformer": 1536,
    "trocr": 512,
    "whisper": 448,
    "xlm": 512,
    "xlm-roberta": 512,
    "xlm-roberta-xl": 514,
    "xmod": 514,
}
# Of these the first rows belong to padding.
_RESERVED: dict[str, int] = dict.fromkeys(
    (
        "camembert",
        "data2vec-text",
        "prophetnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    ),
    2,
)


@dataclass(frozen=True)
class Context:
    """How long an example may be.

    Attributes:
        tokens: The most tokens that the model was made for.
        is_fixed: Whether the model cannot compute longer examples at all.
    """

    tokens: int
    is_fixed: bool

    def check(self, max_length: int, name: str) -> str | None:
        """Compare `recipe.max_length` with the context.

        Args:
            max_length: The longest row, in tokens.
            name: What messages call the model.

        Returns:
            A remark, where the model computes more positions than it was made for.

        Raises:
            TrainingError: The model has no positions for examples of that length.
        """
        if max_length <= self.tokens:
            return None
        if self.is_fixed:
            raise TrainingError(
                f"recipe.max_length {max_length:,} is more than the {self.tokens:,} positions of "
                f"{name}: lower it to {self.tokens}, or name a base model with a longer context"
            )
        return (
            f"recipe.max_length {max_length:,} is beyond the {self.tokens:,} tokens that {name} "
            "was made for: longer examples train positions that it has not seen"
        )

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self | None:
        """Read it off a configuration, as JSON; None if any length will do or nothing is known."""
        text = config.get("text_config")
        values = text if isinstance(text, Mapping) else config
        kind = str(values.get("model_type") or config.get("model_type") or "")
        found = (values[name] for name in _NAMES if isinstance(values.get(name), int))
        tokens = next(found, None) or _TABLES.get(kind)
        if not tokens:
            return None
        return cls(tokens - _RESERVED.get(kind, 0), kind in _TABLES)
