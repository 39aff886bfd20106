"""Rows as a reader sees them: where examples begin, and which part of them is trained on."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.markdown import code_block
from dolly_assets.core.text import count
from dolly_assets.tokenization.labels import LabelRuns

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
    for row in map(int, row_of[np.argsort(train["record"].to_numpy())]):
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
    examples = train.slice(first, end - first)
    runs = LabelRuns.of(examples)
    parts, position = [], 0
    for place, example in enumerate(examples.to_pylist()):
        parts.append(_render(example, runs[place].tolist(), position, tokenizer))
        position += len(example["input_ids"])
    title = f"**Row {row}**: {position:,} tokens, {count(len(parts), 'example')}"
    return "\n\n".join([title, *parts])


def _render(example: dict, runs: list[int], position: int, tokenizer: "Tokenizer") -> str:
    input_ids, lines, begin = example["input_ids"], [], 0
    for turn, length in enumerate(runs):
        text = tokenizer.decode(input_ids[begin : begin + length], skip_special_tokens=False)
        lines += _lines(text, is_labelled=turn % 2 == 1, is_first=turn == 0)
        begin += length
    body = code_block("\n".join(lines), "diff")
    turns = sum(length > 0 for length in runs[1::2])
    title = (
        f"Record {example['record']}, from token {position:,}: "
        f"{count(len(input_ids), 'token')}, {sum(runs[1::2]):,} of them labelled"
        + (f", in {count(turns, 'turn')}" if turns > 1 else "")
    )
    return f"{title}\n\n{body}"


def _lines(text: str, *, is_labelled: bool, is_first: bool) -> list[str]:
    """Return the lines of a run; line breaks between an unlabelled run and its neighbours end one.

    A label that begins or ends with a line break shows it, as an empty line.
    """
    if is_labelled:
        return [f"+ {line}" for line in text.split("\n")] if text else []
    inner = (text if is_first else text.removeprefix("\n")).removesuffix("\n")
    return [f"  {line}" for line in inner.split("\n")] if inner else []
