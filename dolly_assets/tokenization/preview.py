"""A few training examples as a reader sees them, with the part that is trained on made visible."""

import re
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PREVIEW_EXAMPLES = 3


def preview(train: pa.Table, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Render the first training examples as Markdown, decoded from the token ids that the model gets."""
    examples = train.slice(0, PREVIEW_EXAMPLES).to_pylist()
    return "\n\n".join(
        [
            "Lines with **+** are trained on; the others are only read.",
            *(_render(e, tokenizer) for e in examples),
        ]
    )


def _render(example: dict, tokenizer: "PreTrainedTokenizerBase") -> str:
    input_ids, prompt_length = example["input_ids"], example["prompt_length"]
    prompt, labelled = (
        str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        for ids in (input_ids[:prompt_length], input_ids[prompt_length:])
    )
    lines = [f"  {line}" for line in prompt.removesuffix("\n").split("\n")]
    lines += [f"+ {line}" for line in labelled.split("\n")]
    body = "\n".join(lines)
    # A fence longer than any run of backticks inside, so that no example can close it.
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", body))])
    labelled_tokens = len(input_ids) - prompt_length
    title = f"**Row {example['row']}**: {len(input_ids)} tokens, {labelled_tokens} of them labelled"
    return f"{title}\n\n{fence}diff\n{body}\n{fence}"
