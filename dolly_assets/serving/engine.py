"""One thread per base model, which answers all its requests together, token by token.

A request joins at the next token of the others, and its place is free as soon as it ends. Requests
of one adapter are a batch; the batches of a base model's adapters take turns. A request's tokens do
not depend on what it is answered beside. It knows loaded models, and neither HTTP nor the store.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from dolly_assets.core.text import one_line
from dolly_assets.generation.answer_text import AnswerText
from dolly_assets.generation.batches import batches_within
from dolly_assets.generation.rolling import RollingBatch
from dolly_assets.generation.sampling import NoisyLogits, Sampling

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PREFILL_TOKENS = 4096  # of prompts that are read at once, padding included; the others wait for it
_LOG = logging.getLogger(__name__)

Finish = Literal["stop", "length", "error"]


class Piece(NamedTuple):
    """A part of an answer.

    Attributes:
        text: What follows the text before.
        tokens: How many tokens the answer has by now, the one that ended it included.
        finish: Why the answer has ended; None if it has not.
        problem: With `error`, what happened.
    """

    text: str
    tokens: int
    finish: Finish | None = None
    problem: str = ""


@dataclass(eq=False)
class Generation:
    """A request for an answer.

    Attributes:
        prompt: Token ids.
        end_token_ids: The tokens that end an answer.
        max_new_tokens: Tokens of the longest answer.
        sampling: How tokens are drawn, with one seed; None decodes greedily.
        stops: Texts before which the answer ends.
        tokenizer: The model's own.
        adapter: Name of the adapter that answers; None is the base model itself.
        on_piece: Gets the answer, in the engine's thread; the last piece has a `finish`.
    """

    prompt: Sequence[int]
    end_token_ids: Sequence[int]
    max_new_tokens: int
    sampling: Sampling | None
    stops: Sequence[str]
    tokenizer: "PreTrainedTokenizerBase"
    adapter: str | None
    on_piece: Callable[[Piece], None]
    is_cancelled: bool = field(default=False, init=False)
    _is_ended: bool = field(default=False, init=False)

    def give(self, piece: Piece) -> None:
        """Hand out a piece, and none after the last."""
        if not self._is_ended:
            self._is_ended = piece.finish is not None
            self.on_piece(piece)

    def fail(self, problem: str) -> None:
        """End the answer with what happened."""
        self.give(Piece("", 0, "error", problem))

    @property
    def most_tokens(self) -> int:
        """Tokens of the prompt and the longest answer."""
        return len(self.prompt) + self.max_new_tokens


class _Row:
    """A request that is being answered."""

    def __init__(self, request: Generation) -> None:
        self.request, self.tokens = request, 0
        self.token = -1
        self._text = AnswerText(request.tokenizer, request.stops)
        self._noise = NoisyLogits(request.sampling) if request.sampling else None

    def take(self, logits: "torch.Tensor", likeliest: int) -> bool:
        """Take the next token; return whether the answer goes on."""
        self.token = int(self._noise(logits, logits).argmax()) if self._noise else likeliest
        self.tokens += 1
        if self.token in self.request.end_token_ids:
            return self._end("", "stop")
        text = self._text.add(self.token)
        if self._text.is_stopped:
            return self._end(text, "stop")
        if self.tokens == self.request.max_new_tokens:
            return self._end(text, "length")
        if text:
            self.request.give(Piece(text, self.tokens))
        return True

    def _end(self, text: str, finish: Finish) -> bool:
        self.request.give(Piece(text + self._text.end(), self.tokens, finish))
        return False


class _Group:
    """The requests of one adapter: a batch, and which row is whose."""

    def __init__(self, model: "PreTrainedModel") -> None:
        self.batch, self.rows = RollingBatch(model), list[_Row]()

    def join(self, requests: Sequence[Generation]) -> int:
        """Read the prompts and take the first tokens; return how many tokens were computed."""
        for chosen in batches_within(
            [len(each.prompt) for each in requests], len(requests), PREFILL_TOKENS
        ):
            joining = [_Row(requests[at]) for at in chosen]
            self.rows += joining
            logits = self.batch.join([row.request.prompt for row in joining])
            self._take(joining, logits)
        return len(requests)

    def step(self) -> int:
        """Take the next token of each row; return how many there were."""
        taking = self.rows
        self._take(taking, self.batch.step([row.token for row in taking]))
        return len(taking)

    def _take(self, rows: Sequence[_Row], logits: "torch.Tensor") -> None:
        likeliest = logits.argmax(-1).tolist()
        ended = {
            row for at, row in enumerate(rows) if not row.take(logits[at : at + 1], likeliest[at])
        }
        self._keep(lambda row: row not in ended)

    def leave(self) -> None:
        """Remove the rows whose clients have left."""
        self._keep(lambda row: not row.request.is_cancelled)

    def _keep(self, wanted: Callable[[_Row], bool]) -> None:
        kept = [at for at, row in enumerate(self.rows) if wanted(row)]
        if len(kept) < len(self.rows):
            self.batch.keep(kept)
            self.rows = [self.rows[at] for at in kept]

    def fail(self, problem: str) -> None:
        """End all rows with what happened."""
        failed, self.rows = self.rows, []
        self.batch.keep([])
        for row in failed:
            row.request.fail(problem)


class Engine:
    """Answers requests in a thread of its own.

    Args:
        model: The base model, ready to generate.
        most_rows: How many requests are answered at once.
        cache_bytes: How much memory their keys and values may have; a single request may have more.
        with_adapter: Returns a context in which the model answers with an adapter.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        *,
        most_rows: int,
        cache_bytes: int,
        with_adapter: Callable[[str | None], AbstractContextManager[object]],
    ) -> None:
        self._model, self._cache_bytes = model, cache_bytes
        self._most_rows = 1 if RollingBatch(model).has_one_row else most_rows
        self._with_adapter = with_adapter
        self._groups: dict[str | None, _Group] = {}
        self._waiting: deque[Generation] = deque()
        self._changed = threading.Condition()
        self._end: str | None = None
        self._token_bytes = 0.0
        self.tokens = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """How many requests are being answered."""
        return sum(len(group.rows) for group in list(self._groups.values()))

    @property
    def waiting(self) -> int:
        """How many requests wait for room."""
        return len(self._waiting)

    def submit(self, request: Generation) -> None:
        """Have a request answered."""
        with self._changed:
            problem = self._end
            if problem is None:
                self._waiting.append(request)
                self._changed.notify()
        if problem is not None:
            request.fail(problem)

    def cancel(self, request: Generation) -> None:
        """Free the place of a request; it gets no further pieces soon."""
        with self._changed:
            request.is_cancelled = True
            self._changed.notify()

    def stop(self, problem: str) -> None:
        """End all requests with a problem, and the thread."""
        with self._changed:
            self._end = problem
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        import torch

        with torch.inference_mode():
            while (joining := self._next()) is not None:
                groups = {request.adapter for request in joining}
                groups |= {name for name, group in self._groups.items() if group.rows}
                for name in groups:
                    self._advance(name, [each for each in joining if each.adapter == name])
        for group in self._groups.values():
            group.fail(str(self._end))
        for request in self._waiting:
            request.fail(str(self._end))
        self._groups.clear()

    def _next(self) -> list[Generation] | None:
        """Wait for work; return the requests that join now, or None at the end."""
        with self._changed:
            while self._end is None:
                for group in self._groups.values():
                    group.leave()
                while self._waiting and self._waiting[0].is_cancelled:
                    self._waiting.popleft()
                joining = self._fitting()
                if joining or self.running:
                    return joining
                self._changed.wait()
        return None

    def _fitting(self) -> list[Generation]:
        """Take the requests, in their order, that there is room for."""
        rows = [row.request for group in self._groups.values() for row in group.rows]
        joining: list[Generation] = []
        while self._waiting and len(rows) < self._most_rows:
            rows.append(self._waiting[0])
            widest = max(each.most_tokens for each in rows)
            # The first shows how much memory a token needs.
            token_bytes = self._token_bytes or self._cache_bytes
            if len(rows) > 1 and len(rows) * widest * token_bytes > self._cache_bytes:
                break
            joining.append(self._waiting.popleft())
        return [each for each in joining if not each.is_cancelled]

    def _advance(self, name: str | None, joining: Sequence[Generation]) -> None:
        """Take one token for each row of a group, and let others join."""
        group = self._groups.setdefault(name, _Group(self._model))
        try:
            with self._with_adapter(name):
                if group.rows:
                    self.tokens += group.step()
                if joining:
                    self.tokens += group.join(joining)
        except Exception as error:  # noqa: BLE001 whatever a model raises ends its requests, not the server
            _LOG.exception("a batch of %d requests failed", len(group.rows))
            group.fail(one_line(error))
            for request in joining:
                request.fail(one_line(error))
        if group.batch.rows:
            self._token_bytes = group.batch.cache_bytes / (group.batch.rows * group.batch.width)
