"""Talking to a model on the terminal.

Each message is an instruction of its own, as Dolly's format has no dialogue.
"""

from pathlib import Path

from dolly_assets.generation.answer import answer
from dolly_assets.generation.model import load
from dolly_assets.generation.sample import Prompt, sample_responses
from dolly_assets.tokenization.encode import PromptEncoder
from dolly_assets.tokenization.prompt_style import PromptStyle


def ask(
    folder: Path,
    style: PromptStyle,
    prompt: Prompt,
    *,
    adapter: Path | None = None,
    seed: int = 0,
    max_new_tokens: int = 256,
    temperature: float = 0.7,
    top_p: float = 0.95,
) -> str:
    """Answer one prompt with the model in a weights folder.

    Raises:
        BaseModelError: the folder does not hold a model.
    """
    model, tokenizer = load(folder, adapter=adapter)
    return sample_responses(
        model,
        tokenizer,
        style,
        [prompt],
        seed=seed,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
    )[0]


def chat(
    folder: Path,
    style: PromptStyle,
    *,
    adapter: Path | None = None,
    seed: int = 0,
    max_new_tokens: int = 256,
    temperature: float = 0.7,
    top_p: float = 0.95,
) -> None:
    """Read messages from standard input and write the answers to standard output, token by token.

    `/exit`, the end of the input and Ctrl-C leave.

    Raises:
        BaseModelError: the folder does not hold a model.
    """
    import torch
    from transformers import TextStreamer

    model, tokenizer = load(folder, adapter=adapter)
    encoder = PromptEncoder(tokenizer, style)
    torch.manual_seed(seed)
    try:
        while (message := input("> ").strip()) != "/exit":
            if message:
                answer(
                    model,
                    tokenizer,
                    [encoder.prompt(message)],
                    end_token_id=encoder.end_token_id,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    top_p=top_p,
                    streamer=TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True),
                )
    except (EOFError, KeyboardInterrupt):
        pass
