"""A base model in memory with its adapters, and what turns conversations into its prompts.

A checkpoint of whole weights is a base model without adapters. An adapter's matrices are added
beside the base model's own, by peft, and not merged: any number of adapters share one base model.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dolly_assets.core.errors import BaseModelError
from dolly_assets.core.text import memory_size, one_line
from dolly_assets.generation.answer import stop_tokens
from dolly_assets.generation.model import load
from dolly_assets.hardware.machine import host_bytes
from dolly_assets.serving.engine import Engine
from dolly_assets.tokenization.templates.encoder import encoder_for
from dolly_assets.tokenization.templates.template import carried
from dolly_assets.training.context import Context

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dolly_assets.tokenization.templates.encoder import Encoder

_SPARE = 1.1  # times the weights: what loading and one answer need besides
_CACHE_SHARE = 0.25  # of the memory that is free once a model is loaded, for keys and values


@dataclass(eq=False)
class LoadedBase:
    """A base model that answers.

    Attributes:
        model: The model.
        tokenizer: Its own.
        encoder: The template that it carries.
        engine: What answers.
        adapters: Names of the adapters beside it.
        encoding: Held while text is encoded, since tokenizers are not made for several threads.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    encoder: "Encoder"
    engine: Engine = field(init=False)
    adapters: set[str] = field(default_factory=set)
    encoding: threading.Lock = field(default_factory=threading.Lock)
    _adapted: Any = field(default=None, init=False)
    _switching: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def context_tokens(self) -> int | None:
        """Tokens that prompt and answer may have together; None if there is no limit."""
        context = Context.of(self.model.config.to_dict())
        return context.tokens if context else None

    @property
    def stop_token_ids(self) -> list[int]:
        """The tokens at which answers end."""
        return stop_tokens(self.tokenizer, self.encoder.end_token_ids)

    def start(self, most_rows: int) -> None:
        """Start to answer."""
        self.engine = Engine(
            self.model,
            most_rows=most_rows,
            cache_bytes=int(_CACHE_SHARE * free_bytes()),
            with_adapter=self._with_adapter,
        )

    def add_adapter(self, name: str, folder: Path) -> None:
        """Put an adapter beside the model.

        Raises:
            BaseModelError: It does not belong to the model.
        """
        from peft import PeftModel

        with self._switching:
            try:
                if self._adapted is None:
                    self._adapted = PeftModel.from_pretrained(
                        self.model, str(folder), adapter_name=name, autocast_adapter_dtype=False
                    )
                else:
                    self._adapted.load_adapter(str(folder), name, autocast_adapter_dtype=False)
            except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
                raise BaseModelError(
                    f"{folder} does not load as an adapter of this model: {one_line(error)}"
                ) from error
            self._adapted.eval()
            self.adapters.add(name)

    def remove_adapter(self, name: str) -> None:
        """Remove an adapter that nobody uses."""
        with self._switching:
            self.adapters.discard(name)
            self._adapted.delete_adapter(name)

    @contextmanager
    def _with_adapter(self, name: str | None) -> Iterator[None]:
        with self._switching:
            if self._adapted is None:
                yield
            elif name is None:
                with self._adapted.disable_adapter():
                    yield
            else:
                self._adapted.base_model.set_adapter(name, inference_mode=True)
                yield


def load_base(folder: Path, template: str | None) -> LoadedBase:
    """Load a model from a folder of weights, with the template that the folder carries.

    Args:
        folder: The weights.
        template: The name of the template, as the checkpoint states it; None is `dolly`.

    Raises:
        BaseModelError: The folder does not hold a model.
        ConfigurationError: The folder should carry a template and does not.
        TemplateError: The template cannot be used.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model, tokenizer = load(folder)
    return LoadedBase(model, tokenizer, encoder_for(tokenizer, carried(template, None, tokenizer)))


def check_fits(size_bytes: int, name: str) -> None:
    """Check that a model's weights fit the memory that is free.

    Raises:
        BaseModelError: They do not.
    """
    needed, free = int(_SPARE * size_bytes), free_bytes()
    if needed > free:
        raise BaseModelError(
            f"{name} does not fit on this machine: it needs {memory_size(needed)} to answer, of "
            f"which {memory_size(free)} are free; serve it on a machine with more memory, or "
            "load fewer models (--models)"
        )


def free_bytes() -> int:
    """Return how much memory a model may have: of the GPUs, else of this machine or container."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return sum(torch.cuda.mem_get_info(at)[0] for at in range(torch.cuda.device_count()))
    limit, used = host_bytes(), psutil.Process().memory_info().rss
    return max(0, min(limit - used, psutil.virtual_memory().available))
