"""A model in one of the formats, written and compared with itself: the door of this package."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from dolly_assets.conversations import Conversation
from dolly_assets.core.errors import ExportError
from dolly_assets.exporting import gguf_file, huggingface, llama_cpp, lora, ollama
from dolly_assets.exporting.answers import (
    Agreement,
    Answered,
    agreement,
    agreement_of_tokens,
    answered,
)
from dolly_assets.exporting.gguf_reading import fill
from dolly_assets.exporting.model import ExportedModel
from dolly_assets.exporting.settings import Export, Format
from dolly_assets.generation.model import LoadedModel, load, load_with_template
from dolly_assets.training.context import Context


class _Expected(NamedTuple):
    """What the model itself answers; the tokens that end an answer."""

    answers: Answered
    stops: list[int]


@dataclass(frozen=True, eq=False)
class Exporter:
    """Writes a model in formats, and compares each with the model.

    Attributes:
        model: The model.
        settings: How it is exported, and how many answers are compared.
        prompts: Conversations that it is asked to continue.
        name: What a file calls it.
    """

    model: ExportedModel
    settings: Export
    prompts: Sequence[Conversation]
    name: str = ""

    def export(self, export_format: Format, out: Path) -> list[Agreement]:
        """Write the model in a format, and compare its answers.

        Args:
            export_format: The format.
            out: An empty folder; after an error it is not whole.

        Returns:
            How far the answers are equal, for each program that read the export.

        Raises:
            DollyError: The format cannot hold the model, or what was written does not load.
            OSError: The disk is full, or the folder cannot be written.
        """
        if export_format == "hf":
            huggingface.write_folder(self.model, out)
            return [self._compared_folder(out)]
        if export_format == "lora":
            lora.write_folder(self.model, out)
            return [self._compared_adapter(out)]
        file = out / gguf_file.FILE
        with _whole(self.model, out) as weights:
            if export_format == "ollama":
                text = ollama.modelfile(self.model, weights)
                (out / ollama.MODELFILE).write_text(text, encoding="utf-8")
            quantize = self.settings.quantize
            gguf_file.write_file(self.model, weights, file, quantize, name=self.name)
        return self._compared_file(file)

    @cached_property
    def _expected(self) -> _Expected:
        loaded = self._load()
        stops = huggingface.stop_token_ids(loaded.encoder, loaded.tokenizer)
        context = Context.of(loaded.model.config.to_dict())
        room = context.tokens - self.settings.max_new_tokens if context else None
        encoded = [loaded.encoder.prompt(each) for each in self.prompts]
        fitting = [ids for ids in encoded if room is None or len(ids) <= room]
        return _Expected(self._ask(loaded, fitting, stops), stops)

    def _load(self) -> LoadedModel:
        model = self.model
        return load_with_template(
            model.weights, model.style, template=model.template, adapter=model.adapter
        )

    def _ask(
        self,
        loaded: LoadedModel,
        prompts: Sequence[Sequence[int]],
        stops: Sequence[int],
        like: Answered | None = None,
    ) -> Answered:
        return answered(
            loaded.model,
            loaded.tokenizer,
            prompts,
            end_token_ids=stops,
            max_new_tokens=self.settings.max_new_tokens,
            like=like,
        )

    def _compared_folder(self, out: Path) -> Agreement:
        """Compare a folder of weights, prompted and stopped as the folder itself states.

        Raises:
            ExportError: Its prompts or its stop tokens are others than the model's.
        """
        expected, stops = self._expected
        loaded = load_with_template(out, self.model.style, template=f"in {out.name}")
        asked = {tuple(loaded.encoder.prompt(each)) for each in self.prompts}
        stated = json.loads((out / huggingface.GENERATION_FILE).read_bytes())["eos_token_id"]
        has_stops = stops == (stated if isinstance(stated, list) else [stated])
        if not has_stops or not asked.issuperset(expected.prompts):
            raise ExportError(
                f"{out}: it states other prompts or other stop tokens than the model has"
            )
        found = self._ask(loaded, expected.prompts, stops, expected)
        return agreement(expected, found, "transformers", must_be_equal=True)

    def _compared_adapter(self, out: Path) -> Agreement:
        """Compare an adapter as peft computes with it, beside the base model's weights."""
        from peft import PeftModel

        expected, stops = self._expected
        loaded = self._load()
        base, _ = load(out / lora.BASE if (out / lora.BASE).is_dir() else self.model.weights)
        adapted = PeftModel.from_pretrained(base, str(out), autocast_adapter_dtype=False).eval()
        asked = LoadedModel(adapted, loaded.tokenizer, loaded.encoder)  # pyright: ignore[reportArgumentType]
        found = self._ask(asked, expected.prompts, stops, expected)
        return agreement(expected, found, "peft", must_be_equal=False)

    def _compared_file(self, file: Path) -> list[Agreement]:
        """Compare a GGUF file: its tensors, and llama.cpp's answers where that is installed."""
        expected, stops = self._expected
        loaded = self._load()
        is_exact = fill(loaded.model, file)
        found = self._ask(loaded, expected.prompts, stops, expected)
        compared = [agreement(expected, found, "the file's tensors", must_be_equal=is_exact)]
        if llama_cpp.is_installed() and expected.prompts:
            theirs = llama_cpp.answers(
                file, expected.prompts, max_new_tokens=self.settings.max_new_tokens
            )
            compared.append(agreement_of_tokens(expected, theirs, llama_cpp.name()))
        return compared


@contextmanager
def _whole(model: ExportedModel, out: Path) -> Iterator[Path]:
    """Give a folder with the model's whole weights; those of an adapter are merged for the time."""
    if model.adapter is None:
        yield model.weights
        return
    with tempfile.TemporaryDirectory(dir=out, prefix=".merged-") as folder:
        huggingface.write_folder(model, Path(folder) / "weights")
        yield Path(folder) / "weights"
