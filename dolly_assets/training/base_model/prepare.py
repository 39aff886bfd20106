"""From a family's base model to a folder of weights and a tokenizer that can be fine-tuned."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from dolly_assets.core.errors import BaseModelError
from dolly_assets.training.base_model.chat_template import ChooseTemplate, add_tokens
from dolly_assets.training.base_model.check import check
from dolly_assets.training.base_model.config import BaseModelConfig, is_path
from dolly_assets.training.base_model.load import load, load_path, resolve_commit
from dolly_assets.training.base_model.special_tokens import embedding_rows
from dolly_assets.training.base_model.untrained import build
from dolly_assets.training.flops import inactive_weights
from dolly_assets.training.packing.expected import expected_layouts
from dolly_assets.training.weights_files import is_model_file

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

_MAX_SHARD_SIZE = "4GB"


def prepare(
    config: BaseModelConfig,
    *,
    special_tokens: Sequence[str],
    texts: Callable[[], Iterable[str]],
    out: Path,
    log: Callable[[str], None],
    template: "ChooseTemplate | None" = None,
) -> dict[str, JsonValue]:
    """Write the model and its tokenizer into `out`, ready to be fine-tuned.

    Equal calls write equal tensors.

    Args:
        config: What to prepare; relative local paths count from the working directory.
        special_tokens: Tokens that the prompt style needs; the one that ends an answer first.
            They are added unless another template is chosen.
        texts: Returns what an untrained model's tokenizer learns from; not called for others.
        out: A folder that is empty or does not exist. After an error its contents are not a model.
        log: Called with each line for the log, warnings of transformers included.
        template: Chooses the chat template that the model is to carry, given its tokenizer; none if
            left out.

    Returns:
        Attributes of the artifact: source, revision (the commit, for a Hub id), license,
        architecture, parameters, dtype, vocabulary_size (in tokens), embedding_rows,
        context_length (in tokens; None if unlimited), tied_embeddings, inactive_parameters (of
        experts that a token does not pass) and layouts (`ExpectedLayouts`); with a template also
        template, template_digest, template_facts and new_tokens.

    Raises:
        ConfigurationError: There is no such template.
        TemplateError: The template cannot be trained with.
        BaseModelError: It cannot be found or loaded, or is not a causal language model.
    """
    import torch

    if out.exists() and any(out.iterdir()):
        raise BaseModelError(f"{out}: expected an empty folder to write the base model to")
    name = config.source or "untrained"
    with _transformers_output_to(log), torch.random.fork_rng(devices=[]):
        if config.untrained is not None:
            commit, (model, tokenizer) = None, build(config.untrained, special_tokens, texts())
        else:
            commit, (model, tokenizer) = _load_source(name, config.revision, log)
        check(model, name)
        carried = add_tokens(model, tokenizer, special_tokens, template)
        model.save_pretrained(out, max_shard_size=_MAX_SHARD_SIZE)
        tokenizer.save_pretrained(out)
        _delete_other_files(out, log)
        attributes: dict[str, JsonValue] = {
            "source": name,
            "revision": commit,
            "license": config.license,
            "architecture": type(model).__name__,
            "parameters": model.num_parameters(),
            "dtype": str(model.dtype).removeprefix("torch."),
            "vocabulary_size": len(tokenizer),
            "embedding_rows": embedding_rows(model),
            "context_length": _context_length(model.config),
            "tied_embeddings": bool(model.config.tie_word_embeddings),
            "inactive_parameters": inactive_weights(model),
            "layouts": expected_layouts(model).model_dump(mode="json"),
            **carried,
        }
        del model  # before its copy is loaded: a large model fits in memory once
        load(str(out), local_files_only=True)
    log(
        f"{name}: {attributes['architecture']}, {attributes['parameters']:,} parameters, "
        f"{attributes['dtype']}"
    )
    return attributes


def _load_source(
    source: str, revision: str | None, log: Callable[[str], None]
) -> tuple[str | None, tuple["PreTrainedModel", "PreTrainedTokenizerFast"]]:
    """Load a model and tokenizer; also return the commit, for a Hub id."""
    if is_path(source):
        return None, load_path(Path(source).expanduser())
    commit = resolve_commit(source, revision)
    log(f"{source}: loading commit {commit}")
    return commit, load(source, revision=commit)


def _delete_other_files(out: Path, log: Callable[[str], None]) -> None:
    """Delete and log what transformers saved besides the files that loaders read."""
    files = [file for file in out.rglob("*") if file.is_file()]
    others = [file for file in files if not is_model_file(file.relative_to(out).as_posix())]
    for file in others:
        file.unlink()
    if others:
        names = ", ".join(sorted(file.relative_to(out).as_posix() for file in others))
        log(f"left out of the weights folder, since no loader reads it: {names}")


def _context_length(config: "PretrainedConfig") -> int | None:
    names = ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len")
    return next((value for name in names if (value := getattr(config, name, None))), None)


@contextlib.contextmanager
def _transformers_output_to(log: Callable[[str], None]) -> Iterator[None]:
    """Redirect warnings of transformers and the Hub client to `log`, without progress bars."""
    from transformers.utils import logging as transformers_logging

    handler = logging.Handler()
    handler.emit = lambda record: log(record.getMessage())
    loggers = [logging.getLogger("transformers"), logging.getLogger("huggingface_hub")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    had_progress_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        if had_progress_bars:
            transformers_logging.enable_progress_bar()
