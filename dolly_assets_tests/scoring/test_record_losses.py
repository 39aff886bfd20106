"""Losses of records over epochs: planted mislabels, jumps and spikes are found, others are not."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest

from dolly_assets.scoring.record_losses import RECORD_LOSSES_SCHEMA, RecordLosses, of_records

RECORDS, STEPS, TOKENS = 320, 40, 10  # of an epoch
MISLABELLED, FORGOTTEN, BROKEN = {11, 200}, 77, 45


def epoch(number: int, losses: np.ndarray) -> pa.Table:
    """The table of an epoch that takes the records in another order than the last one."""
    order = np.random.default_rng(number).permutation(RECORDS)
    steps = (number - 1) * STEPS + np.arange(RECORDS) * STEPS // RECORDS + 1
    columns = [order, steps, [TOKENS] * RECORDS, TOKENS * losses[order]]
    return pa.table(columns, names=RECORD_LOSSES_SCHEMA.names).cast(RECORD_LOSSES_SCHEMA)


def training(epochs: int = 3, *, is_learning: bool = True) -> dict[int, np.ndarray]:
    """Every record's loss, by epoch: it falls by 0.6 nats from one to the next, with noise."""
    generator = np.random.default_rng(0)
    base = generator.normal(3.0, 0.3, RECORDS)
    return {
        number: base - 0.6 * is_learning * (number - 1) + generator.normal(0, 0.1, RECORDS)
        for number in range(1, epochs + 1)
    }


def found(losses: Mapping[int, np.ndarray]) -> RecordLosses:
    return RecordLosses.of({number: epoch(number, each) for number, each in losses.items()})


def test_records_that_never_get_better_are_those_that_were_mislabelled() -> None:
    losses = training()
    for record in MISLABELLED:
        losses[2][record], losses[3][record] = 4.6, losses[1][record] + 1.5
    hard = 150  # falls like the others, from a higher loss
    for epoch_losses in losses.values():
        epoch_losses[hard] *= 2.5
    listed = found(losses).never_better()
    assert {each.record for each in listed} == MISLABELLED
    assert listed[0].size == max(each.size for each in listed)
    assert "the median record keeps 7" in listed[0].sentence


@pytest.mark.parametrize("is_learning", [True, False])
@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_a_training_as_usual_has_no_record_that_stands_out(epochs: int, is_learning: bool) -> None:
    """Also one that learns nothing: there, half of the records are not better at its end."""
    losses = found(training(epochs, is_learning=is_learning))
    assert losses.never_better() == losses.jumps() == losses.in_loss_spikes() == []


def test_a_record_that_is_forgotten_jumps_and_states_between_which_epochs() -> None:
    losses = training()
    losses[3][FORGOTTEN] = losses[2][FORGOTTEN] + 1.5
    [jump] = found(losses).jumps()
    assert jump.record == FORGOTTEN
    assert jump.size == pytest.approx(1.5, abs=1e-5)
    assert "in epoch 2" in jump.sentence
    assert jump.losses == tuple(pytest.approx(losses[e][FORGOTTEN], rel=1e-6) for e in (1, 2, 3))


def test_the_record_behind_a_loss_spike_comes_first_with_its_share_of_the_step() -> None:
    losses = training()
    losses[2][BROKEN] = 60.0
    spiked = found(losses)
    table = epoch(2, losses[2]).to_pylist()
    [step] = [line["step"] for line in table if line["record"] == BROKEN]
    assert list(spiked.spiked) == [step]
    listed = spiked.in_loss_spikes()
    assert listed[0].record == BROKEN
    assert listed[0].size > 0.7
    assert f"of the loss of step {step}, which jumped to" in listed[0].sentence
    same_step = {line["record"] for line in table if line["step"] == step}
    assert {each.record for each in listed} <= same_step


def test_a_record_that_an_epoch_left_out_has_no_loss_there() -> None:
    tables = {number: epoch(number, each) for number, each in training().items()}
    left_out = tables[2].slice(1)
    [record] = set(tables[2]["record"].to_pylist()) - set(left_out["record"].to_pylist())
    losses = RecordLosses.of({**tables, 2: left_out})
    assert list(losses.of_record(record)) == [1, 3]
    assert losses.of_record(RECORDS + 5) == {}


def test_a_record_of_several_examples_has_the_loss_of_all_their_tokens() -> None:
    lines = [
        {"example": 0, "step": 1, "labelled_tokens": 1, "loss": 4.0},
        {"example": 2, "step": 1, "labelled_tokens": 3, "loss": 2.0},
        {"example": 1, "step": 2, "labelled_tokens": 0, "loss": 0.0},
    ]
    table = of_records(pa.Table.from_pylist(lines), pa.chunked_array([[7, 9, 7]]))
    assert table.schema.equals(RECORD_LOSSES_SCHEMA)
    assert RecordLosses.of({1: table}).of_record(7) == {1: 1.5}
    assert RecordLosses.of({1: table}).of_record(9) == {}


def test_no_epochs_have_no_records() -> None:
    losses = RecordLosses.of({})
    assert losses.never_better() == losses.jumps() == losses.in_loss_spikes() == []
    assert losses.of_record(0) == {}
