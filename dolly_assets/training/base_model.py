"""Base models: whatever a user names becomes one folder of plain weights, treated alike from there on.

Knows the Hub, local folders, GGUF files and untrained models. Knows of prompts only the special
tokens they need, and of training nothing.
"""

import contextlib
import io
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from dolly_assets.core.base import Config
from dolly_assets.core.errors import BaseModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MAX_SHARD_SIZE = "4GB"
# Rows are added in whole 64s: an odd number keeps tensor cores from the largest matrix product of
# all.
# https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication/index.html#r
# equirements-tc
_EMBEDDING_ROWS_MULTIPLE = 64
_NEW_ROWS_SEED = 0
# What the tokenizer of an untrained model begins, ends and pads with, as GPT-2's does.
_END_OF_TEXT = "<|endoftext|>"
_PAD = "<|pad|>"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


class UntrainedModel(Config):
    """A model with random weights and a tokenizer of its own, for demos and tests: nothing is downloaded."""

    config: dict[str, JsonValue] = Field(
        description="A transformers configuration with its `model_type` and without `vocab_size`."
    )
    vocabulary_size: int = Field(
        ge=320,
        description="Tokens of its byte-level BPE, special ones included; fewer if the texts give fewer.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the random weights.")

    @field_validator("config")
    @classmethod
    def _has_a_type_and_no_vocabulary(cls, config: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if not isinstance(config.get("model_type"), str):
            raise ValueError(
                "model_type is missing: name a transformers architecture, such as gpt2 or llama"
            )
        if "vocab_size" in config:
            raise ValueError(
                "vocab_size follows from the tokenizer: set vocabulary_size beside config instead"
            )
        return config


class BaseModelConfig(Config):
    """Where a base model comes from."""

    source: str | None = Field(
        default=None,
        description="A Hub id (owner/name), a local folder (/…, ./…, ../… or ~…), or a path ending in .gguf.",
    )
    untrained: UntrainedModel | None = Field(
        default=None, description="Instead of a source: a model with random weights."
    )
    revision: str | None = Field(
        default=None, min_length=1, description="Hub only: a branch, tag or commit."
    )
    license: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$",
        description="SPDX id or Hub tag of the weights' licence: apache-2.0.",
    )

    @field_validator("source")
    @classmethod
    def _is_a_path_or_a_hub_id(cls, source: str | None) -> str | None:
        if source is None or _is_path(source) or _HUB_ID.fullmatch(source):
            return source
        raise ValueError(
            f"{source!r} is neither a Hub id, such as EleutherAI/gpt-j-6b, nor a path: "
            "begin a local folder with /, ./, ../ or ~, and end a GGUF file in .gguf"
        )

    @model_validator(mode="after")
    def _names_one_model(self) -> Self:
        if (self.source is None) == (self.untrained is None):
            raise ValueError("name exactly one of source and untrained")
        if self.revision is not None and (self.source is None or _is_path(self.source)):
            raise ValueError(
                f"revision {self.revision!r} is for Hub ids only, and {self.source or 'untrained'} is none"
            )
        return self

    def resolved(self, relative_to: Path) -> Self:
        """The same with a local path made absolute; a relative one counts from the folder `relative_to`."""
        if self.source is None or not _is_path(self.source):
            return self
        path = (relative_to / Path(self.source).expanduser()).resolve()
        return self.model_copy(update={"source": str(path)})


def prepare(
    config: BaseModelConfig,
    *,
    special_tokens: Sequence[str],
    texts: Callable[[], Iterable[str]],
    out: Path,
    log: Callable[[str], None],
) -> dict[str, JsonValue]:
    """Writes the model and its tokenizer into `out`, ready to be fine-tuned; equal calls write equal tensors.

    Args:
        config: What to prepare; relative local paths count from the working directory.
        special_tokens: Tokens that the prompt style needs, the one that ends an answer first.
        texts: What an untrained model's tokenizer learns from; not called for any other.
        out: A folder that is empty or does not exist yet. After an error, what it holds is not a
            model.
        log: Called with each thing worth telling, transformers' own warnings included.

    Returns:
        Facts: source, revision (the commit, for a Hub id), license, architecture, parameters,
            dtype,
        vocabulary_size (tokens), embedding_rows, context_length (tokens; None if unlimited),
        tied_embeddings.

    Raises:
        BaseModelError: It cannot be found or loaded, or is not a causal language model.
    """
    import torch

    if out.exists() and any(out.iterdir()):
        raise BaseModelError(f"{out}: expected an empty folder to write the base model to")
    name = config.source or "untrained"
    commit = None
    with _transformers_output_to(log), torch.random.fork_rng(devices=[]):
        if config.untrained is not None:
            model, tokenizer = _build(config.untrained, special_tokens, texts())
        elif _is_path(name):
            model, tokenizer = _load_path(Path(name).expanduser())
        else:
            commit = _resolve_commit(name, config.revision)
            log(f"{name}: loading commit {commit}")
            model, tokenizer = _load(name, revision=commit)
        _check_causal(model, name)
        _add_special_tokens(model, tokenizer, special_tokens)
        model.save_pretrained(out, max_shard_size=_MAX_SHARD_SIZE)
        tokenizer.save_pretrained(out)
        facts: dict[str, JsonValue] = {
            "source": name,
            "revision": commit,
            "license": config.license,
            "architecture": type(model).__name__,
            "parameters": model.num_parameters(),
            "dtype": str(model.dtype).removeprefix("torch."),
            "vocabulary_size": len(tokenizer),
            "embedding_rows": _embedding_rows(model),
            "context_length": _context_length(model.config),
            "tied_embeddings": bool(model.config.tie_word_embeddings),
        }
        del model  # before its copy is loaded: a large model fits in memory once
        _load(str(out), local_files_only=True)
    log(f"{name}: {facts['architecture']}, {facts['parameters']:,} parameters, {facts['dtype']}")
    return facts


def _is_path(source: str) -> bool:
    return (
        source.startswith(("/", "./", "../", "~"))
        or source in (".", "..")
        or source.endswith(".gguf")
    )


def _resolve_commit(hub_id: str, revision: str | None) -> str:
    """The commit that a revision stands for now, so that weights and tokenizer come from the same one."""
    from huggingface_hub import resolve_revision

    try:
        return resolve_revision(hub_id, revision=revision).resolved
    except Exception as error:  # the Hub client's errors share no base class
        raise BaseModelError(
            f"{hub_id}: cannot be had from the Hub ({_reason(error)}). Check the id, the revision and the "
            "network; for a gated or private model set HF_TOKEN; or name a local folder that has it: ./model"
        ) from error


def _load_path(path: Path) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    if not path.exists():
        raise BaseModelError(
            f"{path}: no such file or folder; relative paths count from the YAML file's folder"
        )
    if path.suffix == ".gguf" and path.is_file():
        return _load_gguf(path)
    _check_folder(path)
    return _load(str(path))


def _check_folder(folder: Path) -> None:
    """Raises BaseModelError unless the folder has a configuration, weights and a tokenizer."""
    if not folder.is_dir():
        raise BaseModelError(
            f"{folder}: expected a folder with a model in it, or a file ending in .gguf"
        )
    for patterns in (("config.json",), _WEIGHTS, _TOKENIZERS):
        if not any(file for pattern in patterns for file in folder.glob(pattern)):
            found = (
                shorten(", ".join(sorted(file.name for file in folder.iterdir())), 200) or "nothing"
            )
            raise BaseModelError(
                f"{folder}: not a model: {' or '.join(patterns)} is missing; found {found}"
            )


def _load_gguf(path: Path) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic != b"GGUF":
        raise BaseModelError(
            f"{path}: not a GGUF file: it begins with {magic!r} instead of b'GGUF'"
        )
    # Its progress bar is the one that transformers' switch does not reach.
    with contextlib.redirect_stderr(io.StringIO()):
        return _load(str(path.parent), gguf_file=path.resolve())


def _load(
    source: str,
    *,
    gguf_file: Path | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    """A causal language model, whole and unquantized, with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, __version__

    shown = gguf_file or source
    where: dict[str, Any] = {
        "revision": revision,
        "local_files_only": local_files_only,
        "trust_remote_code": False,
    }
    weights: dict[str, Any] = {"dtype": "auto"}
    if gguf_file is not None:
        where["gguf_file"] = str(gguf_file)
        # float32 holds the dequantized values as they are; bfloat16 would round them again.
        weights = {"dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
    # Else transformers has the Hub convert a repository without safetensors, from a thread of its
    # own.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, **where, **weights, weights_only=True, output_loading_info=True
        )
    except Exception as error:  # a damaged file or a wrong configuration can raise anything
        raise BaseModelError(
            f"{shown}: no causal language model that transformers {__version__} can load ({_reason(error)})"
        ) from error
    model, loading = loaded
    if lost := sorted(map(str, [*loading["missing_keys"], *loading["mismatched_keys"]])):
        raise BaseModelError(
            f"{shown}: not the weights of a {type(model).__name__}: {len(lost)} tensors are missing or of "
            f"another shape, such as {lost[0]}"
        )
    if getattr(model, "hf_quantizer", None) is not None:
        raise BaseModelError(
            f"{shown}: its weights are quantized and cannot be trained: name the original model"
        )
    return model, tokenizer


def _build(
    untrained: UntrainedModel, special_tokens: Sequence[str], texts: Iterable[str]
) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    """A model with random weights, and a tokenizer that has the special tokens from the start."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = _train_tokenizer(texts, untrained.vocabulary_size, special_tokens)
    end_of_text = tokenizer.convert_tokens_to_ids(_END_OF_TEXT)
    config = _model_config(
        untrained.config,
        vocab_size=_round_up(len(tokenizer)),
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
    )
    torch.manual_seed(untrained.seed)
    try:
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False), tokenizer
    except Exception as error:  # each architecture refuses bad sizes in its own way
        raise BaseModelError(
            f"untrained.config: no causal language model can be built ({_reason(error)})"
        ) from error


def _model_config(values: dict[str, Any], **derived: Any) -> "PretrainedConfig":
    """The transformers configuration, with what is derived on top and no value that it does not know."""
    from transformers import AutoConfig, __version__

    model_type = values["model_type"]
    try:
        defaults = AutoConfig.for_model(model_type)
    except ValueError as error:
        raise BaseModelError(
            f"untrained.config: transformers {__version__} has no model_type {model_type!r}; try gpt2"
        ) from error
    try:
        config = AutoConfig.for_model(**(values | derived))
    except Exception as error:  # huggingface_hub's strict dataclasses raise their own
        raise BaseModelError(
            f"untrained.config: not a {model_type} configuration ({_reason(error)})"
        ) from error
    # A name that no field, alias or older spelling has taken ends up as an attribute that nothing
    # reads.
    if stray := sorted((config.to_dict().keys() - defaults.to_dict().keys()) & values.keys()):
        raise BaseModelError(
            f"untrained.config: a {model_type} configuration has no {', '.join(stray)}"
        )
    return config


def _train_tokenizer(
    texts: Iterable[str], vocabulary_size: int, special_tokens: Sequence[str]
) -> "PreTrainedTokenizerFast":
    """A byte-level BPE tokenizer, as GPT-2's: it can spell any text, so it needs no unknown token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(dict.fromkeys([_END_OF_TEXT, *special_tokens])),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=_END_OF_TEXT, eos_token=_END_OF_TEXT
    )


def _check_causal(model: "PreTrainedModel", name: str) -> None:
    """Raises BaseModelError if the first position sees later ones, as in BERT, which transformers loads too.

    A causal mask makes that gradient exactly zero, in every dtype, so there is no tolerance to
    choose.
    """
    import torch

    token_ids = torch.arange(8)[None]
    embeddings = model.get_input_embeddings()(token_ids).detach().requires_grad_()
    with torch.enable_grad():
        first_logits = model(inputs_embeds=embeddings, use_cache=False).logits[0, 0]
    (gradient,) = torch.autograd.grad(first_logits.float().square().sum(), embeddings)
    if gradient[0, 1:].any():
        raise BaseModelError(
            f"{name}: not a causal language model: {model.config.model_type} sees the tokens that it is to "
            "predict; name a decoder, such as EleutherAI/pythia-160m"
        )


def _add_special_tokens(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", special_tokens: Sequence[str]
) -> None:
    """Gives tokenizer and model the tokens, and a padding token that is not the one which ends an answer."""
    from transformers import GenerationConfig

    end = special_tokens[0]
    new = [token for token in special_tokens if token not in tokenizer.all_special_tokens]
    tokenizer.add_special_tokens({"extra_special_tokens": new}, replace_extra_special_tokens=False)
    if tokenizer.pad_token in (None, end):
        pad = _PAD if tokenizer.eos_token in (None, end) else str(tokenizer.eos_token)
        tokenizer.add_special_tokens({"pad_token": pad})
    _grow_embeddings(model, len(tokenizer))
    # In the configuration too: some architectures keep gradients from the padding row, and a
    # checkpoint that is loaded again has to train as this model does.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.convert_tokens_to_ids(end),
        pad_token_id=tokenizer.pad_token_id,
    )


def _grow_embeddings(model: "PreTrainedModel", tokens: int) -> None:
    """Adds rows near the old ones' mean, equal in every call; keeps spare rows, which many models have."""
    import torch

    if tokens > _embedding_rows(model):
        torch.manual_seed(_NEW_ROWS_SEED)
        model.resize_token_embeddings(_round_up(tokens))


def _embedding_rows(model: "PreTrainedModel") -> int:
    return model.get_input_embeddings().get_parameter("weight").shape[0]


def _round_up(tokens: int) -> int:
    return -(-tokens // _EMBEDDING_ROWS_MULTIPLE) * _EMBEDDING_ROWS_MULTIPLE


def _context_length(config: "PretrainedConfig") -> int | None:
    names = ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len")
    return next((value for name in names if (value := getattr(config, name, None))), None)


def _reason(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {error}", 300)


@contextlib.contextmanager
def _transformers_output_to(log: Callable[[str], None]) -> Iterator[None]:
    """Hands the warnings of transformers and the Hub client to `log`, and turns their progress bars off."""
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
