"""Asking a model, and chatting with it on a terminal.

Each message is an independent instruction, since Dolly's format has no dialogue.
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
    """Return the answer of the model in a weights folder to one prompt.

    Args:
        folder: The weights folder.
        style: How prompts are laid out.
        prompt: The prompt.
        adapter: A LoRA adapter of this model.
        seed: Seed of the sampling.
        max_new_tokens: Length of the longest answer in tokens.
        temperature: 0 is greedy.
        top_p: Share of the probability that is sampled from.

    Raises:
        BaseModelError: The folder does not hold a model.
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
    """Read messages from standard input and print the answers token by token.

    `/exit`, the end of the input and Ctrl-C end the chat. The arguments are those of `ask`.

    Raises:
        BaseModelError: The folder does not hold a model.
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
