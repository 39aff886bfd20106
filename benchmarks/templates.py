"""Proven masks against transformers' own, template by template and conversation by conversation.

A folder of chat templates holds pairs: `NAME.jinja`, a model's own template, and
`NAME_training.jinja`, the same marked with `{% generation %}`, as the PyPI package trl carries them
in `trl/chat_templates`. For each pair and conversation, the labels that are proven on the model's
own template are compared with the mask that `return_assistant_tokens_mask` gives for the marked
one. Every difference has a class, which the legend explains; what is refused has its sentence.

The tokenizer is a byte-level BPE with the template's control tokens, trained on the spot.

    python benchmarks/templates.py FOLDER [--conversations FILE.json] [--records 50]
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dolly_assets.conversations import Conversation, Message, ToolCall
from dolly_assets.core.errors import DollyError
from dolly_assets.tokenization.prompt_style import PromptStyle
from dolly_assets.tokenization.templates.choice import choose
from dolly_assets.tokenization.templates.encoder import Encoder, encoder_for
from dolly_assets.tokenization.templates.messages import TemplateInput
from dolly_assets.tokenization.templates.settings import TemplateFile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CLASSES = {
    "=": "the same tokens carry labels",
    "n": "the mask includes white space after the end token, which a model never generates",
    "a": "the mask includes more after the end token, where generation has stopped",
    "h": "the mask begins before the generation prompt ends, with what a model never generates",
    "g": "the mask begins after a part of the turn that the generation prompt does not contain",
    "o": "as history the turn ends with another token than as the last turn, where ours is trained",
    "b": "the same text, but the mask's first token reaches across the end of the prompt",
    "r": "the marked template leaves out the reasoning of a turn that is history; ours trains "
    "the turn as it was generated",
    "e": "the mask ends before the end token, so that a model would not learn to stop",
    "m": "the mask has no labels for a turn, or splits it",
    "x": "the marked template writes the turn otherwise",
    "R": "refused, with the sentence below",
    "P": "the peer raises",
}
TOKEN = re.compile(r"<[|｜/]?[^<>\s{}=]{1,40}>|\[/?[A-Z_]{3,}\]")
ALWAYS = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|end|>"]

TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Returns the weather.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "The city."}},
                "required": ["city"],
            },
        },
    },
)
ASK, ANSWER = Message("user", "What is the capital of France?"), Message("assistant", "Paris.")
AGAIN, SECOND = Message("user", "And of Italy?"), Message("assistant", "Rome, since 1871.")
THOUGHT = Message("assistant", "Paris.", reasoning="France is in Europe.")
SECOND_THOUGHT = Message("assistant", "Rome.", reasoning="Italy, then.")
CALL = Message("assistant", tool_calls=(ToolCall("weather", {"city": "Oslo"}, id="call12345"),))
RESULT = Message("tool", '{"celsius": -3}', tool_call_id="call12345", name="weather")
CONVERSATIONS = {
    "plain": Conversation((ASK, ANSWER)),
    "system": Conversation((Message("system", "Be brief."), ASK, ANSWER)),
    "turns": Conversation((ASK, ANSWER, AGAIN, SECOND)),
    "tools": Conversation((Message("user", "Weather in Oslo?"), CALL, RESULT, ANSWER), TOOLS),
    "thinks": Conversation((ASK, THOUGHT)),
    "thinks twice": Conversation((ASK, THOUGHT, AGAIN, SECOND_THOUGHT)),
}


@dataclass
class Cell:
    """What a template made of one conversation."""

    classes: str
    sentence: str = ""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--conversations", type=Path, help="ShareGPT records with tool calls")
    parser.add_argument("--records", type=int, default=50)
    arguments = parser.parse_args()
    real = (
        read_sharegpt(arguments.conversations, arguments.records) if arguments.conversations else []
    )
    names = [*CONVERSATIONS, *(["records"] if real else [])]
    print(f"| template | {' | '.join(names)} |\n|---{'|---' * len(names)}|")
    counts: Counter[str] = Counter()
    sentences: dict[str, set[str]] = {}
    for marked in sorted(arguments.folder.glob("*_training.jinja")):
        name = marked.name.removesuffix("_training.jinja")
        cells = compare(marked.with_name(f"{name}.jinja"), marked, real)
        shown = [summary(cells[each]) for each in names]
        print(f"| {name} | {' | '.join(shown)} |", flush=True)
        for cell in (cell for each in cells.values() for cell in each):
            counts[cell.classes] += 1
            if cell.sentence:
                sentences.setdefault(cell.sentence, set()).add(name)
    print(f"\n{counts.total()} masks: {dict(counts.most_common())}\n")
    print("\n".join(f"- `{key}`: {meaning}" for key, meaning in CLASSES.items()))
    print(
        "\n" + "\n".join(f"- {', '.join(sorted(who))}: {text}" for text, who in sentences.items())
    )


def summary(cells: Sequence[Cell]) -> str:
    """Return the classes of cells, with their counts if there are several."""
    counts = Counter(cell.classes for cell in cells)
    if len(cells) == 1:
        return cells[0].classes
    return ", ".join(f"{count} {classes}" for classes, count in counts.most_common())


def compare(own: Path, marked: Path, real: Sequence[Conversation]) -> dict[str, list[Cell]]:
    """Compare the masks of one pair of templates."""
    texts = [file.read_text(encoding="utf-8") for file in (own, marked)]
    tokenizer = trained_tokenizer("".join(texts))
    named = {name: [each] for name, each in CONVERSATIONS.items()}
    try:
        template = choose(TemplateFile(name=own.name, text=texts[0]), PromptStyle(), tokenizer)
        encoder = encoder_for(tokenizer, template)
    except DollyError as error:
        return {
            name: [Cell("R", str(error)) for _ in conversations]
            for name, conversations in {**named, "records": real}.items()
        }
    return {
        name: [compare_one(encoder, tokenizer, texts[1], each) for each in conversations]
        for name, conversations in {**named, "records": real}.items()
    }


def compare_one(
    encoder: Encoder, tokenizer: "PreTrainedTokenizerFast", marked: str, conversation: Conversation
) -> Cell:
    """Compare the masks of one conversation."""
    encoded = encoder.examples([conversation], max_length=1 << 20)
    if encoded.refused:
        return Cell("R", next(iter(encoded.refused)))
    by_message = {
        message: ids.input_ids[slice(*span)]
        for _, ids in encoded.examples
        for message, span in zip(ids.messages, ids.spans, strict=True)
    }
    ours = [by_message[message] for message in sorted(by_message)]
    source = TemplateInput(marked, arguments_as_json=encoder.facts.arguments_as_json)
    try:
        peer: Any = tokenizer.apply_chat_template(
            source.messages(conversation),
            tools=source.tools(conversation) or None,
            chat_template=marked,
            return_assistant_tokens_mask=True,
            return_dict=True,
        )
    except Exception as error:  # noqa: BLE001 a template can raise anything
        return Cell("P", f"{type(error).__name__}: {error}")
    mask, ids = np.array(peer["assistant_masks"]), np.array(peer["input_ids"])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask, [0]]))).reshape(-1, 2)
    theirs = [ids[begin:end] for begin, end in edges]
    if len(theirs) != len(ours):
        return Cell("m", f"{len(ours)} turns carry labels, the mask has {len(theirs)} spans")
    thoughts = [each.reasoning for each in conversation.messages if each.reasoning]
    found = {
        key
        for pair in zip(ours, theirs, strict=True)
        for key in classes(*pair, tokenizer, thoughts)
    }
    return Cell("".join(key for key in CLASSES if key in found - {"="}) or "=")


def classes(
    ours: np.ndarray,
    theirs: np.ndarray,
    tokenizer: "PreTrainedTokenizerFast",
    thoughts: Sequence[str],
) -> Iterator[str]:
    """Yield the classes of the difference between a turn's labels and its mask."""
    if np.array_equal(ours, theirs):
        yield "="
        return
    own, peer = (str(tokenizer.decode(ids)) for ids in (ours, theirs))
    end = str(tokenizer.decode(ours[-1:]))
    if any((thought in own) != (thought in peer) for thought in thoughts):
        yield "r"
    elif peer == own:
        yield "b"
    elif own in peer:
        before, _, after = peer.partition(own)
        yield from ("h",) * bool(before)
        yield from ("a" if after.strip() else "n",) * bool(after)
    elif peer in own:
        before, _, after = own.partition(peer)
        yield from ("g",) * bool(before)
        yield from ("e",) * bool(after)
    elif own.removesuffix(end) in peer:
        yield from ("h",) * (not peer.startswith(own[:8]))
        yield "o"
    elif peer.partition(end)[0] + end in own:
        yield "g"
        yield from ("n",) * (not peer.endswith(end))
    else:
        yield "x"


def trained_tokenizer(template: str) -> "PreTrainedTokenizerFast":
    """Return a byte-level BPE tokenizer with the control tokens that a template writes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2_000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    backend.train_from_iterator([template, __doc__ or ""], trainer)
    tokens = list(dict.fromkeys([*ALWAYS, *TOKEN.findall(template)]))
    backend.add_tokens(
        [AddedToken(each, special=not _is_tag(each), normalized=False) for each in tokens]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="<|endoftext|>"
    )


def _is_tag(token: str) -> bool:
    return re.fullmatch(r"</?(think|tool|function|parameter|answer)\w*>", token) is not None


def read_sharegpt(file: Path, records: int) -> list[Conversation]:
    """Return the conversations of a file of ShareGPT records with function calls."""
    roles = {"human": "user", "gpt": "assistant", "observation": "tool", "system": "system"}
    conversations = []
    for record in json.loads(file.read_text(encoding="utf-8"))[:records]:
        messages = []
        for turn in record["conversations"]:
            if turn["from"] == "function_call":
                call = json.loads(turn["value"])
                calls = (ToolCall(call["name"], call["arguments"], id="call12345"),)
                messages.append(Message("assistant", tool_calls=calls))
            else:
                role: Any = roles[turn["from"]]
                call_id = "call12345" if role == "tool" else ""
                messages.append(Message(role, turn["value"], tool_call_id=call_id))
        tools = json.loads(record.get("tools") or "[]")
        wrapped = tuple({"type": "function", "function": tool} for tool in tools)
        conversations.append(Conversation(tuple(messages), wrapped))
    return conversations


if __name__ == "__main__":
    main()
