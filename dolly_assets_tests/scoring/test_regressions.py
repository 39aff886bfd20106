"""What counts as worse, and as overfitting: planted cases."""

import pytest

from dolly_assets.scoring.contender import Contender
from dolly_assets.scoring.regressions import compare, overfitting
from dolly_assets_tests.scoring.tables import right, scored

LOSSES = [1.0 + 0.01 * (place % 7) for place in range(100)]


def by_loss(epoch: int, shift: float) -> Contender:
    return Contender(
        f"epoch {epoch}", str(epoch), scored(["no"] * 100, [x + shift for x in LOSSES])
    )


@pytest.mark.parametrize(
    ("new", "old", "is_worse"), [(0.3, 0.5, True), (0.49, 0.5, False), (0.7, 0.5, False)]
)
def test_worse_means_worse_and_not_by_chance(new: float, old: float, is_worse: bool) -> None:
    found = compare(
        "exact_match", Contender("epoch 1", "1", right(new)), Contender("epoch 0", "0", right(old))
    )
    assert found
    assert found.is_worse is is_worse
    assert found.sentence.startswith(f"exact match {new - old:+.4f} (95 % from ")


def test_what_was_scored_on_another_split_is_not_compared() -> None:
    old = Contender("epoch 0", "0", scored(["yes"] * 100, first_record=7))
    assert compare("exact_match", Contender("epoch 1", "1", right(0.5)), old) is None


@pytest.mark.parametrize(
    ("held_out", "training", "overfits"),
    [
        ((0.3, 0.0, 0.2), (2.0, 1.5, 1.0), True),  # turned
        ((0.3, 0.1, 0.0), (2.0, 1.5, 1.0), False),  # still falls
        ((0.3, 0.0, 0.2), (2.0, 1.5, 1.9), False),  # both rose: diverged, not overfitted
    ],
)
def test_overfitting_is_a_held_out_loss_that_turned_while_the_training_loss_falls(
    held_out: tuple[float, ...], training: tuple[float, ...], overfits: bool
) -> None:
    epochs = {n: by_loss(n, shift) for n, shift in enumerate(held_out, 1)}
    losses = dict(enumerate(training, 1))
    found = overfitting(epochs, losses, 3)
    assert found
    assert found.is_worse is overfits
    assert "against epoch 2" in found.sentence
    assert overfitting(epochs, losses, 1) is None
