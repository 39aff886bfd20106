"""Rows as a reader sees them: where examples begin, and which part of them is trained on."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.markdown import code_block
from dolly_assets.core.text import count

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PREVIEW_EXAMPLES = 3
LEGEND = (
    "Lines with **+** are trained on; the others are only read. "
    "No example of a row sees another one."
)


def preview(train: pa.Table, tokenizer: "Tokenizer") -> str:
    """Render the rows of the first records as Markdown, up to a few examples."""
    row_of = train["row"].to_numpy()
    examples_in = np.bincount(row_of)
    shown: list[int] = []
    for row in row_of[np.argsort(train["record"].to_numpy())].tolist():
        if row not in shown:
            shown.append(row)
        if examples_in[shown].sum() >= PREVIEW_EXAMPLES:
            break
    return "\n\n".join([LEGEND, *(preview_row(train, row, tokenizer) for row in shown)])


def preview_row(train: pa.Table, row: int, tokenizer: "Tokenizer") -> str:
    """Render a row as Markdown, decoded from the token ids that the model gets.

    Raises:
        ConfigurationError: There is no such row.
    """
    row_of = train["row"].to_numpy()
    first, end = np.searchsorted(row_of, [row, row + 1]).tolist()
    if first == end:
        raise ConfigurationError(
            f"row {row} does not exist: the rows of this dataset are 0 to {int(row_of[-1])}"
        )
    examples = train.slice(first, end - first).to_pylist()
    parts, position = [], 0
    for example in examples:
        parts.append(_render(example, position, tokenizer))
        position += len(example["input_ids"])
    title = f"**Row {row}**: {position:,} tokens, {count(len(examples), 'example')}"
    return "\n\n".join([title, *parts])


def _render(example: dict, position: int, tokenizer: "Tokenizer") -> str:
    input_ids, prompt_length = example["input_ids"], example["prompt_length"]
    prompt, labelled = (
        tokenizer.decode(ids, skip_special_tokens=False)
        for ids in (input_ids[:prompt_length], input_ids[prompt_length:])
    )
    lines = [f"  {line}" for line in prompt.removesuffix("\n").split("\n")]
    lines += [f"+ {line}" for line in labelled.split("\n")]
    body = code_block("\n".join(lines), "diff")
    labelled_tokens = len(input_ids) - prompt_length
    title = (
        f"Record {example['record']}, from token {position:,}: "
        f"{count(len(input_ids), 'token')}, {labelled_tokens:,} of them labelled"
    )
    return f"{title}\n\n{body}"
