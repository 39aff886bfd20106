"""Conversations as token ids and labels, in the same way for training and generation.

Nothing is trained on that is not proven: the tokenizer's own ids where nothing was marked, labels
that decode to what a model would generate, and a prompt whose ids are those of generation.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from dolly_assets.conversations import Conversation
from dolly_assets.core.errors import TemplateError
from dolly_assets.tokenization.templates.control import ControlTokens
from dolly_assets.tokenization.templates.messages import TemplateInput
from dolly_assets.tokenization.templates.probe import Facts, Probe
from dolly_assets.tokenization.templates.proof import MERGES_TO_CONTROL, Ids, Proof
from dolly_assets.tokenization.templates.render import Renderer
from dolly_assets.tokenization.templates.settings import Labels
from dolly_assets.tokenization.templates.template import Template
from dolly_assets.tokenization.templates.turns import (
    Refusal,
    RenderedExample,
    TurnFinder,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH_CONVERSATIONS = 256


@dataclass
class EncodedConversations:
    """Conversations as examples, and those that are none.

    Attributes:
        examples: Each with its conversation's number, in this order; a conversation has several
            if its template rewrites history.
        refused: Numbers of the conversations that are not trained on, by reason.
        too_long: Numbers of those that are dropped, or lost an example, as too long.
        shortened: Numbers of those that lost their first turns.
    """

    examples: list[tuple[int, Ids]] = field(default_factory=list)
    refused: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    too_long: list[int] = field(default_factory=list)
    shortened: list[int] = field(default_factory=list)

    def add(self, others: "EncodedConversations") -> None:
        """Add later conversations."""
        self.examples += others.examples
        for reason, records in others.refused.items():
            self.refused[reason] += records
        self.too_long += others.too_long
        self.shortened += others.shortened


class Encoder:
    """Encodes prompts and conversations under one template with one tokenizer.

    What is guaranteed:

    - `prompt` gives the ids that an example's prompt has in training, and, unless a message spells
      a control token, those that `tokenizer.apply_chat_template` gives with a generation prompt.
    - A message that spells a control token is text: it ends no turn and forges none.
    - The labels of an example decode to what the template writes for the turn, from the end of the
      generation prompt through the end token.
    - A conversation for which this does not hold is in `refused`, with its reason.

    Attributes:
        template: The template.
        facts: What it does.
        end_token_ids: What ends an answer: the template's end tokens, and the tokenizer's own
            where the template is not `dolly`.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", template: Template, labels: Labels
    ) -> None:
        """Probe the template, and prepare a copy of the tokenizer.

        Raises:
            ConfigurationError: The tokenizer is not a fast one.
            TemplateError: The template raises, or no label can be proven with it.
        """
        self.template, self._labels = template, labels
        self._renderer = Renderer(template, tokenizer.special_tokens_map)
        probe = Probe(self._renderer)
        self._control = ControlTokens(tokenizer, template.text + probe.written)
        self.facts: Facts = probe.facts(self._control)
        self._input = TemplateInput(template.text, arguments_as_json=self.facts.arguments_as_json)
        self._turns = TurnFinder(self._renderer, self._control, self.facts.end_tokens, labels)
        ends = [self._control.ids[token] for token in self.facts.end_tokens]
        self._proof = Proof(self._control, ends)
        if template.name != "dolly" and isinstance(tokenizer.eos_token_id, int):
            ends.append(tokenizer.eos_token_id)
        self.end_token_ids: tuple[int, ...] = tuple(dict.fromkeys(ends))

    @property
    def encoder(self) -> str:
        """The library in use: tiktoken where it provably gives the same ids, else tokenizers."""
        return self._control.encoder

    def prompt(self, conversation: Conversation) -> list[int]:
        """Return the ids of a conversation with the generation prompt after it.

        Raises:
            TemplateError: The template refuses the conversation.
        """
        messages, tools = self._marked(conversation)
        [encoded] = self._control.encode([self._renderer.prompt(messages, tools)])
        if encoded is None:
            raise TemplateError(f"template {self.template.name}: {MERGES_TO_CONTROL}")
        return encoded[0].tolist()

    def examples(
        self, conversations: Iterable[Conversation], *, max_length: int
    ) -> EncodedConversations:
        """Encode conversations, all of which are then in memory; see `batches`."""
        encoded = EncodedConversations()
        for batch in self.batches(conversations, max_length=max_length):
            encoded.add(batch)
        return encoded

    def batches(
        self, conversations: Iterable[Conversation], *, max_length: int
    ) -> Iterator[EncodedConversations]:
        """Encode conversations, some at once.

        Args:
            conversations: What to train on.
            max_length: Tokens of the longest example; what becomes of longer ones is a setting.
        """
        remaining, first = iter(conversations), 0
        while batch := list(islice(remaining, _BATCH_CONVERSATIONS)):
            encoded = EncodedConversations()
            for at, result in enumerate(self._encode(batch)):
                self._add(encoded, first + at, batch[at], result, max_length)
            yield encoded
            first += len(batch)

    def _add(
        self,
        encoded: EncodedConversations,
        record: int,
        conversation: Conversation,
        result: list[Ids] | Refusal,
        max_length: int,
    ) -> None:
        """Add what became of a conversation."""
        if isinstance(result, Refusal):
            encoded.refused[str(result)].append(record)
            return
        fitting = _fitting(result, max_length)
        if len(fitting) < len(result):
            kept = self._last_turns(conversation, max_length)
            (encoded.shortened if kept else encoded.too_long).append(record)
            fitting = kept or fitting
        encoded.examples += [(record, ids) for ids in fitting]

    def _encode(self, conversations: Sequence[Conversation]) -> list[list[Ids] | Refusal]:
        """Return the examples of each conversation, or why it is not trained on."""
        rendered = [self._rendered(conversation) for conversation in conversations]
        flat = [example for each in rendered if isinstance(each, list) for example in each]
        proven = iter(self._proof.encode(flat))
        results: list[list[Ids] | Refusal] = []
        for each in rendered:
            if isinstance(each, Refusal):
                results.append(each)
                continue
            examples = list(islice(proven, len(each)))
            refusals = [example for example in examples if isinstance(example, Refusal)]
            ids = [example for example in examples if isinstance(example, Ids)]
            results.append(refusals[0] if refusals else ids)
        return results

    def _rendered(self, conversation: Conversation) -> list[RenderedExample] | Refusal:
        try:
            return self._turns.examples(*self._marked(conversation))
        except Refusal as refusal:
            return refusal

    def _marked(self, conversation: Conversation) -> tuple[list[dict[str, Any]], list[Any]]:
        """Return messages and tools as the template reads them, with marked control tokens."""
        return (
            self._control.marked(self._input.messages(conversation)),
            self._control.marked(self._input.tools(conversation)),
        )

    def _last_turns(self, conversation: Conversation, max_length: int) -> list[Ids]:
        """Return the longest end of a conversation that fits, from a user's message on.

        It is nothing unless the setting asks for it, or if not even the last exchange fits.
        """
        if self._labels.too_long != "keep_last_turns":
            return []
        starts = _exchanges(conversation)
        least, most, found = 1, len(starts), list[Ids]()
        while least < most:
            middle = (least + most) // 2
            [result] = self._encode([_from(conversation, starts[middle])])
            if isinstance(result, list) and len(_fitting(result, max_length)) == len(result):
                found, most = result, middle
            else:
                least = middle + 1
        return found


def encoder_for(
    tokenizer: "PreTrainedTokenizerBase", template: Template, labels: Labels | None = None
) -> Encoder:
    """Return the encoder of a template with one tokenizer, for training and generation alike.

    `template.carried` finds the template that a prepared base model or a checkpoint has. See
    `Encoder` for what is guaranteed.

    Args:
        tokenizer: A fast tokenizer that has the template's control tokens.
        template: The template.
        labels: Which turns are trained; irrelevant to prompts.

    Raises:
        ConfigurationError: The tokenizer is not a fast one.
        TemplateError: The template raises, or no label can be proven with it.
    """
    return Encoder(tokenizer, template, labels or Labels())


def _fitting(examples: Sequence[Ids], max_length: int) -> list[Ids]:
    return [each for each in examples if len(each.input_ids) <= max_length]


def _exchanges(conversation: Conversation) -> list[int]:
    """Return where the exchanges of a conversation begin: the places of the users' messages."""
    return [at for at, message in enumerate(conversation.messages) if message.role == "user"]


def _from(conversation: Conversation, start: int) -> Conversation:
    """Return the end of a conversation, with the system messages that precede all others."""
    system = tuple(
        message
        for at, message in enumerate(conversation.messages[:start])
        if all(each.role == "system" for each in conversation.messages[: at + 1])
    )
    return replace(conversation, messages=(*system, *conversation.messages[start:]))
