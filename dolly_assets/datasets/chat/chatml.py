"""A conversation as one text in ChatML, where it can be read without loss.

The markers are OpenAI's (`<|im_start|>role`, `<|im_end|>`), as Qwen and SmolLM write them. A text
that writing the messages again would not give is refused, and so is one that spells tool calls:
how they are written depends on the template, and arguments would lose their types.
"""

import re
from collections.abc import Iterator

from dolly_assets.datasets.chat.losses import RecordError

START, END = "<|im_start|>", "<|im_end|>"
_TURN = re.compile(r"<\|im_start\|>([^\n]*)\n(.*?)<\|im_end\|>(?:\n|\Z)", re.DOTALL)
_TOOLS = re.compile(r"</?(?:tool_call|tool_response|tools)>")
WHAT_IT_IS = f"expected {START}role, a line break, the text, {END} and a line break for each turn"


def turns_of(text: object) -> Iterator[dict[str, object]]:
    """Yield the turns of a text as messages with role and content.

    Raises:
        RecordError: It is no text in ChatML, or has more in it than turns.
    """
    if not isinstance(text, str) or START not in text:
        raise RecordError(
            f"its text is not ChatML; {WHAT_IT_IS}. Plain text without instructions is not read"
        )
    if tool := _TOOLS.search(text):
        raise RecordError(
            f"its text spells tool calls ({tool[0]}), which are not read from ChatML; write them "
            "as 'messages' with 'tool_calls'"
        )
    end = 0
    while end < len(text):
        turn = _TURN.match(text, end)
        if not turn or START in turn[2]:
            raise RecordError(f"its text is not ChatML at character {end}; {WHAT_IT_IS}")
        yield {"role": turn[1], "content": turn[2]}
        end = turn.end()
