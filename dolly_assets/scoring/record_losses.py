"""The loss of every record in every epoch of a training, and the records that stand out.

A record that does not get better while the others do may be mislabelled, and one whose loss jumps
up is forgotten by what was learnt since. Knows tables of losses, not texts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from dolly_assets.scoring.spikes import DEVIATION_PER_MAD, Spike, spikes

RECORD_LOSSES_SCHEMA = pa.schema(
    {
        "record": pa.int64(),  # index in the raw dataset
        "step": pa.int64(),  # since the first epoch's first, counted from 1
        "labelled_tokens": pa.int32(),
        "loss": pa.float32(),  # nats, summed over the labelled tokens, before the step
    }
)
"""One line per example of an epoch: a record that gave several examples has several lines."""

OUTLIER_DEVIATIONS = 5.0
# Where the others' losses hardly differ, every record would stand out.
LEAST_DEVIATION_NATS = 0.1
# The records of a step that are shown: those that make this share of its loss, but not too many.
MOST_OF_A_SPIKE, RECORDS_PER_SPIKE = 0.5, 5

Reason = Literal["never better", "jump", "spike"]


class Standout(NamedTuple):
    """A record that stands out, and why.

    Attributes:
        record: Index in the raw dataset.
        reason: Which of the lists it is in.
        losses: Nats per labelled token in every epoch; None in one that left the record out.
        size: What its list is sorted by: its loss after the first epoch, by how much it rose, or
            its share of the step's loss.
        sentence: What was found.
    """

    record: int
    reason: Reason
    losses: tuple[float | None, ...]
    size: float
    sentence: str


@dataclass(frozen=True)
class RecordLosses:
    """The losses of all records over the epochs of a training.

    Attributes:
        epochs: The epochs, ascending.
        records: The records that any of them saw, ascending.
        losses: Nats per labelled token, shape (records, epochs); NaN where an epoch left one out.
        spiked: The steps in which the loss jumped.
        in_spikes: The lines of these steps, with the columns of RECORD_LOSSES_SCHEMA.
    """

    epochs: tuple[int, ...]
    records: np.ndarray
    losses: np.ndarray
    spiked: Mapping[int, Spike]
    in_spikes: pa.Table

    @classmethod
    def of(cls, tables: Mapping[int, pa.Table]) -> "RecordLosses":
        """Read the tables of RECORD_LOSSES_SCHEMA, by epoch."""
        epochs = tuple(sorted(tables))
        lines = pa.concat_tables([RECORD_LOSSES_SCHEMA.empty_table(), *(tables[e] for e in epochs)])
        records, places = np.unique(lines["record"].to_numpy(), return_inverse=True)
        columns = np.repeat(np.arange(len(epochs)), [tables[epoch].num_rows for epoch in epochs])
        shape = (len(records), len(epochs))
        spiked = spikes(_step_losses(lines))
        is_in_spike = np.isin(lines["step"].to_numpy(), [*spiked])
        losses = _mean(lines, np.ravel_multi_index((places, columns), shape), int(np.prod(shape)))
        return cls(
            epochs, records, losses.reshape(shape), spiked, lines.filter(pa.array(is_in_spike))
        )

    def of_record(self, record: int) -> dict[int, float]:
        """Return the losses of a record by epoch, of the epochs that saw it."""
        return {
            epoch: loss
            for epoch, loss in zip(self.epochs, self._losses_of(record), strict=True)
            if loss is not None
        }

    def never_better(self) -> list[Standout]:
        """Return the records that stay far above the others; the largest loss first.

        They do so in every epoch after the first, and their loss falls by less than half of the
        share by which that of the median record does.
        """
        if len(self.epochs) < 2 or not len(self.records):
            return []
        later, first = self.losses[:, 1:], self.losses[:, 0]
        # A record that an epoch left out is judged by the others.
        is_known = np.isfinite(later)
        is_high = ((later > _limits(later)) | ~is_known).all(axis=1) & is_known.any(axis=1)
        left = _left(first, _median_of_each(later))
        if not np.isfinite(left).any():
            return []
        usual = np.nanmedian(left)
        places = np.flatnonzero(is_high & (left > (1 + usual) / 2))
        found = [self._never_better(int(place), float(usual)) for place in places]
        return sorted(found, key=lambda each: -each.size)

    def _never_better(self, place: int, usual: float) -> Standout:
        record, later = int(self.records[place]), self.losses[place, 1:]
        median = float(np.nanmedian(later))
        return Standout(
            record,
            "never better",
            self._losses_of(record),
            median,
            f"{self.losses[place, 0]:.3f} in epoch {self.epochs[0]}, {median:.3f} at the median of "
            f"the later ones; the median record keeps {usual:.0%} of its loss",
        )

    def jumps(self) -> list[Standout]:
        """Return the records whose loss rose from one epoch to the next, unlike the others'."""
        found: dict[int, Standout] = {}
        for after in range(1, len(self.epochs)):
            before, now = self.losses[:, after - 1], self.losses[:, after]
            for place in _risen(now - before):
                record, rise = int(self.records[place]), float(now[place] - before[place])
                sentence = (
                    f"{before[place]:.3f} in epoch {self.epochs[after - 1]}, {now[place]:.3f} in "
                    f"epoch {self.epochs[after]}"
                )
                jump = Standout(record, "jump", self._losses_of(record), rise, sentence)
                found[record] = max(jump, found.get(record, jump), key=lambda each: each.size)
        return sorted(found.values(), key=lambda each: -each.size)

    def in_loss_spikes(self) -> list[Standout]:
        """Return the records that make most of the loss of each step that is a spike."""
        return [each for step, spike in self.spiked.items() for each in self._in_spike(step, spike)]

    def _in_spike(self, step: int, spike: Spike) -> Iterator[Standout]:
        lines = [line for line in self.in_spikes.to_pylist() if line["step"] == step]
        total, explained = sum(line["loss"] for line in lines), 0.0
        for line in sorted(lines, key=lambda line: -line["loss"])[:RECORDS_PER_SPIKE]:
            if explained >= MOST_OF_A_SPIKE:
                return
            share = line["loss"] / total
            explained += share
            yield Standout(
                line["record"],
                "spike",
                self._losses_of(line["record"]),
                share,
                f"{share:.0%} of the loss of step {step}, which jumped to {spike.loss:.3f} from a "
                f"median of {spike.usual:.3f}",
            )

    def _losses_of(self, record: int) -> tuple[float | None, ...]:
        place = int(np.searchsorted(self.records, record))
        if place == len(self.records) or self.records[place] != record:
            return (None,) * len(self.epochs)
        return tuple(None if np.isnan(loss) else float(loss) for loss in self.losses[place])


def of_records(losses: pa.Table, records: pa.ChunkedArray) -> pa.Table:
    """Return the table of RECORD_LOSSES_SCHEMA.

    Args:
        losses: What a training collected: example, step, labelled_tokens and loss.
        records: The record of each example, by its line in the table that was trained on.
    """
    table = losses.set_column(0, "record", records.take(losses["example"]))
    return table.select(RECORD_LOSSES_SCHEMA.names).cast(RECORD_LOSSES_SCHEMA)


def _mean(lines: pa.Table, groups: np.ndarray, count: int) -> np.ndarray:
    """Return the loss per labelled token of each group of lines; NaN where there is none."""
    sums, tokens = (
        np.bincount(groups, weights=lines[name].to_numpy(), minlength=count)
        for name in ("loss", "labelled_tokens")
    )
    return np.divide(sums, tokens, out=np.full(count, np.nan), where=tokens > 0)


def _step_losses(lines: pa.Table) -> list[tuple[int, float]]:
    steps, groups = np.unique(lines["step"].to_numpy(), return_inverse=True)
    losses = zip(steps.tolist(), _mean(lines, groups, len(steps)).tolist(), strict=True)
    return [(step, loss) for step, loss in losses if np.isfinite(loss)]


def _median_of_each(losses: np.ndarray) -> np.ndarray:
    """Return the median of each row; NaN where nothing in it is known."""
    known = np.isfinite(losses).any(axis=1)
    medians = np.full(len(losses), np.nan)
    medians[known] = np.nanmedian(losses[known], axis=1)
    return medians


def _left(first: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Return the share of the first loss that is left; NaN where it is not known."""
    is_known = np.isfinite(later) & (first > 0)
    return np.divide(later, first, out=np.full(len(first), np.nan), where=is_known)


def _limits(losses: np.ndarray) -> np.ndarray:
    """Return up to which loss a record is like the others, in each column."""
    medians = np.nanmedian(losses, axis=0)
    deviations = DEVIATION_PER_MAD * np.nanmedian(np.abs(losses - medians), axis=0)
    return medians + OUTLIER_DEVIATIONS * np.maximum(deviations, LEAST_DEVIATION_NATS)


def _risen(rise: np.ndarray) -> list[int]:
    """Return where a loss rose, and far more than the others', the largest rise first."""
    if not np.isfinite(rise).any():
        return []
    limit = float(_limits(rise[:, None])[0]) - min(0.0, float(np.nanmedian(rise)))
    places = np.flatnonzero(rise > limit)
    return places[np.argsort(-rise[places], kind="stable")].tolist()
