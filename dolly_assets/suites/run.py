"""A model on the records of a suite: answers, choices by likelihood, losses of texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dolly_assets.generation.answer import Batching, answers_in_batches
from dolly_assets.generation.evaluate import held_out_losses
from dolly_assets.generation.model import LoadedModel
from dolly_assets.suites.encoding import Labelled, RecordEncoder
from dolly_assets.suites.records import Record
from dolly_assets.suites.results import rows_of
from dolly_assets.suites.scorers import score, unfollowed
from dolly_assets.suites.settings import Suite

Row = dict[str, Any]


@dataclass(frozen=True)
class SuiteRun:
    """A model that is scored on a suite.

    Attributes:
        loaded: The model.
        suite: The suite's settings.
        place: What errors name before a record's line.
        max_new_tokens: Length of the longest answer.
        batch_size: How many records are scored or answered at once.
        batching: As in `answers_in_batches`.
    """

    loaded: LoadedModel
    suite: Suite
    place: str
    max_new_tokens: int
    batch_size: int
    batching: Batching = "static"

    def score(self, records: Sequence[Record]) -> pa.Table:
        """Return the results of all records, as a table of RESULTS_SCHEMA.

        Raises:
            ConfigurationError: A record does not fit the model; nothing was scored.
        """
        chosen = [record for record in records if record.scorer == "choice"]
        texts = [record for record in records if record.scorer == "text"]
        asked = [record for record in records if record.scorer not in ("choice", "text")]
        encoder = RecordEncoder(self.loaded, self.place, self.suite.uses_chat_template)
        prompts = [encoder.prompt(record, self.max_new_tokens) for record in asked]
        choices = [encoder.choices(record) for record in chosen]
        windows = [encoder.windows(record) for record in texts]
        rows = [
            *self._answered(asked, prompts),
            *self._chosen(chosen, choices),
            *self._read(texts, windows),
        ]
        return rows_of(sorted(rows, key=lambda row: row["line"]))

    def _answered(self, records: Sequence[Record], prompts: Sequence[list[int]]) -> list[Row]:
        answers = answers_in_batches(
            self.loaded.model,
            self.loaded.tokenizer,
            prompts,
            end_token_ids=self.loaded.encoder.end_token_ids,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            batching=self.batching,
        )
        return [
            {
                **_about(record),
                "answer": answer,
                "score": score(record, answer),
                "unfollowed": unfollowed(record, answer) if record.instructions else None,
            }
            for record, answer in zip(records, answers, strict=True)
        ]

    def _chosen(self, records: Sequence[Record], choices: Sequence[list[Labelled]]) -> list[Row]:
        losses = self._losses(choices)
        rows = []
        for record, of_choices in zip(records, losses, strict=True):
            lengths = [
                len(choice) if self.suite.length_normalized else 1 for choice in record.choices
            ]
            answer = record.choices[int(np.argmin(of_choices / lengths))]
            rows.append(
                {
                    **_about(record),
                    "answer": answer,
                    "score": float(answer in record.expected),
                    "choice_losses": of_choices.tolist(),
                }
            )
        return rows

    def _read(self, records: Sequence[Record], windows: Sequence[list[Labelled]]) -> list[Row]:
        return [
            {
                **_about(record),
                "loss": float(losses.sum()),
                "tokens": sum(len(each.ids) - each.unlabelled for each in of_text),
                "bytes": len(record.text.encode()),
            }
            for record, of_text, losses in zip(records, windows, self._losses(windows), strict=True)
        ]

    def _losses(self, groups: Sequence[list[Labelled]]) -> list[np.ndarray]:
        """Return the summed losses of each group's sequences, in nats."""
        flat = [each for group in groups for each in group]
        if not flat:
            return []
        table = pa.table(
            {
                "input_ids": pa.array([each.ids for each in flat], pa.list_(pa.int32())),
                "prompt_length": pa.array([each.unlabelled for each in flat], pa.int32()),
            }
        )
        losses = held_out_losses(self.loaded.model, table, batch_size=self.batch_size).loss
        return np.split(losses, np.cumsum([len(group) for group in groups])[:-1])


def _about(record: Record) -> Row:
    prompt = record.text if record.scorer == "text" else record.asked.text
    return {
        "id": record.id,
        "line": record.line,
        "scorer": record.scorer,
        "prompt": prompt,
        "expected": list(record.expected) or None,
    }
