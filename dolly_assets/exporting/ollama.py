"""The format `ollama`: a GGUF file, and the Modelfile with which `ollama create` makes a model.

Ollama ignores the template in the file: it has its own language for them.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dolly_assets.exporting.gguf_file import FILE
from dolly_assets.exporting.gguf_vocabulary import adds_bos
from dolly_assets.exporting.go_template import layout_of
from dolly_assets.exporting.huggingface import encoder_of, stop_token_ids
from dolly_assets.exporting.model import ExportedModel
from dolly_assets.tokenization.templates.render import Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MODELFILE = "Modelfile"


def modelfile(model: ExportedModel, weights: Path) -> str:
    """Return the Modelfile of a model whose GGUF file lies beside it.

    Ollama penalizes repeated tokens unless it is told otherwise, which changes what a model says.

    Args:
        model: Whose template it gets.
        weights: The folder of its whole weights.

    Raises:
        TemplateError: The template cannot be written in Go.
    """
    encoder, tokenizer = encoder_of(model, weights)
    layout = layout_of(Renderer(encoder.template, tokenizer.special_tokens_map))
    if adds_bos(tokenizer):
        layout = layout.without(str(tokenizer.bos_token))
    lines = [
        f"FROM ./{FILE}",
        f'TEMPLATE """{layout.in_go()}"""',
        "PARAMETER repeat_penalty 1.0",
        *(
            f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}"
            for stop in _stops(tokenizer, stop_token_ids(encoder, tokenizer))
        ),
    ]
    return "\n".join(lines) + "\n"


def _stops(tokenizer: "PreTrainedTokenizerBase", stops: list[int]) -> list[str]:
    """Return the tokens that end an answer, as far as a Modelfile can quote them."""
    texts = [str(tokenizer.convert_ids_to_tokens(stop)) for stop in stops]
    return [
        text for text in texts if text.strip() == text and text.isprintable() and '"' not in text
    ]
