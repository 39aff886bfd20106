"""Rendered examples as token ids with labels, each proven on its ids.

It knows texts and tokens of a batch; how texts were rendered it doesn't know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dolly_assets.tokenization.templates.control import ControlTokens
from dolly_assets.tokenization.templates.turns import Refusal, RenderedExample

MERGES_TO_CONTROL = "the tokenizer makes a control token of what a message spells"


@dataclass(frozen=True)
class Ids:
    """An example's token ids.

    Attributes:
        input_ids: Token ids; the last one is the end token of the last trained turn.
        prompt_length: Tokens before the last trained turn: what a model is prompted with.
        spans: Begin and end of each turn's labels, in tokens.
        messages: The place of each of these turns in its conversation.
    """

    input_ids: np.ndarray
    prompt_length: int
    spans: tuple[tuple[int, int], ...]
    messages: tuple[int, ...]

    @property
    def runs(self) -> tuple[int, ...]:
        """Lengths of runs of tokens, alternately without and with labels, the first without."""
        edges = [0, *(edge for span in self.spans for edge in span)]
        return tuple(end - begin for begin, end in pairwise(edges))


class Proof:
    """Encodes rendered examples and refuses those whose ids are not proven."""

    def __init__(self, control: ControlTokens, turn_end_ids: Sequence[int]) -> None:
        self._control, self._turn_end_ids = control, np.array(turn_end_ids, dtype=np.int32)

    def encode(self, examples: Sequence[RenderedExample]) -> list[Ids | Refusal]:
        """Return the ids of each example, or why they are not proven."""
        encoded = self._control.encode(
            [_with_edges(example, self._control) for example in examples]
        )
        found = [
            Refusal(MERGES_TO_CONTROL) if each is None else self._ids(example, *each)
            for example, each in zip(examples, encoded, strict=True)
        ]
        for check in (self._check_text, self._check_prompt, self._check_labels):
            proven = [at for at, each in enumerate(found) if isinstance(each, Ids)]
            ids = [each for each in found if isinstance(each, Ids)]
            problems = check([examples[at] for at in proven], ids)
            for at, problem in zip(proven, problems, strict=True):
                if problem:
                    found[at] = Refusal(problem)
        return found

    def _ids(self, example: RenderedExample, ids: np.ndarray, edges: np.ndarray) -> Ids | Refusal:
        """Find the labels between edges and end tokens."""
        at = dict(zip(_edges(example), edges.tolist(), strict=True))
        ends = np.flatnonzero(np.isin(ids, self._turn_end_ids)) + 1
        spans = []
        for turn in example.turns:
            begin = at[turn.label]
            later = ends[ends > begin]
            if not len(later):
                return Refusal("no end token follows a turn")
            spans.append((begin, int(later[0])))
        if spans[-1][1] != len(ids):
            return Refusal("a turn's end token is not where its text ends")
        messages = tuple(turn.message for turn in example.turns)
        return Ids(ids, at[example.turns[-1].prompt], tuple(spans), messages)

    def _check_text(self, examples: Sequence[RenderedExample], ids: Sequence[Ids]) -> list[str]:
        """Check that the ids are the tokenizer's own, but for boundaries where labels begin."""
        plain = self._control.plain_ids([example.text for example in examples])
        differ = [
            at
            for at, (example, each, own) in enumerate(zip(examples, ids, plain, strict=True))
            if not self._control.is_marked(example.text) and not np.array_equal(each.input_ids, own)
        ]
        whole = self._control.encode([examples[at].text for at in differ])
        problems = [""] * len(examples)
        for at, each in zip(differ, whole, strict=True):
            if each is None or not np.array_equal(each[0], plain[at]):
                problems[at] = "its ids are not those that the tokenizer itself gives"
            elif self._control.decode([ids[at].input_ids]) != self._control.decode([plain[at]]):
                problems[at] = "the tokenizer adds a space where a turn begins"
        return problems

    def _check_prompt(self, examples: Sequence[RenderedExample], ids: Sequence[Ids]) -> list[str]:
        """Check that the last turn's prompt has the ids that it has at generation."""
        # A prompt with earlier turns has boundaries where their labels begin, in training alone.
        single = [at for at, each in enumerate(examples) if len(each.turns) == 1]
        prompts = self._control.encode(
            [examples[at].text[: examples[at].turns[-1].prompt] for at in single]
        )
        problems = [""] * len(examples)
        for at, prompt in zip(single, prompts, strict=True):
            own = ids[at].input_ids[: ids[at].prompt_length]
            if prompt is None or not np.array_equal(prompt[0], own):
                problems[at] = "the ids of its prompt are not those of generation"
        return problems

    def _check_labels(self, examples: Sequence[RenderedExample], ids: Sequence[Ids]) -> list[str]:
        """Check that the labels of each turn decode to its text."""
        texts = [turn.text[turn.label :] for each in examples for turn in each.turns]
        labels = [(each.input_ids, span) for each in ids for span in each.spans]
        decoded = self._decoded(labels)
        differ = [
            at for at, text in enumerate(decoded) if text != self._control.unmarked(texts[at])
        ]
        # A tokenizer that normalizes texts decodes to what it made of them.
        alone = self._control.encode([self._control.edge + texts[at] for at in differ])
        normal = self._decoded(
            [
                _after(labels[at], each[0] if each else np.array([], np.int32))
                for at, each in zip(differ, alone, strict=True)
            ]
        )
        wrong = {at for at, text in zip(differ, normal, strict=True) if decoded[at] != text}
        problems, first = [], 0
        for each in examples:
            is_wrong = not wrong.isdisjoint(range(first, first + len(each.turns)))
            problems.append("its labels do not decode to what is generated" if is_wrong else "")
            first += len(each.turns)
        return problems

    def _decoded(self, labels: Sequence[tuple[np.ndarray, tuple[int, int]]]) -> list[str]:
        """Return the texts of labels.

        Each is decoded together with the token before it, since some tokenizers decode the first
        token of a text otherwise.
        """
        before = self._control.decode(
            [ids[max(0, begin - 1) : begin] for ids, (begin, _) in labels]
        )
        whole = self._control.decode([ids[max(0, begin - 1) : end] for ids, (begin, end) in labels])
        return [text.removeprefix(first) for text, first in zip(whole, before, strict=True)]


def _edges(example: RenderedExample) -> list[int]:
    """Return where in the text a token has to begin: at labels, and where the prompt ends."""
    return sorted({*(turn.label for turn in example.turns), example.turns[-1].prompt})


def _after(
    label: tuple[np.ndarray, tuple[int, int]], ids: np.ndarray
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return other ids in the place of a label."""
    before, (begin, _) = label
    whole = np.concatenate([before[max(0, begin - 1) : begin], ids])
    return whole, (len(whole) - len(ids), len(whole))


def _with_edges(example: RenderedExample, control: ControlTokens) -> str:
    places = [0, *_edges(example), len(example.text)]
    parts = [example.text[begin:end] for begin, end in pairwise(places)]
    return control.edge.join(parts)
