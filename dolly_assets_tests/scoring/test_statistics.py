"""Intervals and tests against SciPy's exact ones, and against what is known of them."""

import numpy as np
import pytest
from scipy import stats

from dolly_assets.scoring.intervals import ratio_interval, share_interval
from dolly_assets.scoring.paired import best_gain, p_values
from dolly_assets.scoring.power import smallest_share_difference


@pytest.mark.parametrize("shares", [(0.6, 0.5), (0.5, 0.5), (0.8, 0.4)])
def test_the_paired_test_is_mcnemars_for_right_and_wrong_answers(
    shares: tuple[float, float],
) -> None:
    random = np.random.default_rng(3)
    new, old = (random.random(150) < share for share in shares)
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    exact = stats.binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue
    ours = best_gain((new.astype(float) - old)[None], np.ones(150)).p_value
    assert ours == pytest.approx(exact, rel=1e-12)


def test_the_paired_test_is_scipys_permutation_test_for_losses() -> None:
    random = np.random.default_rng(4)
    old = random.gamma(2.0, 1.0, 60)
    new = old - 0.1 + random.normal(0, 0.4, 60)
    theirs = stats.permutation_test(
        (old, new),
        lambda old, new, axis: (old - new).sum(axis=axis),
        permutation_type="samples",
        alternative="greater",
        n_resamples=9_999,
        vectorized=True,
        rng=0,
    ).pvalue
    assert best_gain((old - new)[None], np.ones(60)).p_value == pytest.approx(theirs, abs=0.02)


def test_every_candidate_is_tested_as_the_best_of_all() -> None:
    random = np.random.default_rng(7)
    improvements = random.normal(0, 1.0, (5, 100)) + np.linspace(0, 0.3, 5)[:, None]
    found = p_values(improvements)
    order = improvements.sum(axis=1).argsort()
    assert (np.diff(found[order]) <= 0).all()  # the more gained, the less by chance
    alone = [float(p_values(each[None])[0]) for each in improvements]
    assert (found >= np.array(alone) - 0.02).all()


def test_copies_of_an_epoch_cost_no_evidence() -> None:
    random = np.random.default_rng(5)
    improvements = random.normal(0.2, 1.0, 100)
    one = best_gain(improvements[None], np.ones(100))
    five = best_gain(np.stack([improvements] * 5), np.ones(100))
    assert five.p_value == one.p_value


def test_an_overfitted_epoch_does_not_hide_the_gain_of_another() -> None:
    """As in a fine-tune of eight epochs on 300 records: the second is best, the last are wild."""
    random = np.random.default_rng(3)
    steady = random.normal(0.1, 0.1, 40)
    wild = random.normal(-1.0, 3.0, (6, 40))
    alone = best_gain(steady[None], np.ones(40))
    among = best_gain(np.vstack([steady[None], wild]), np.ones(40))
    assert (among.candidate, alone.p_value) == (0, pytest.approx(1e-4))
    assert among.p_value < 0.001


def test_the_scale_of_a_candidate_does_not_change_the_p_values() -> None:
    random = np.random.default_rng(4)
    improvements = random.normal(0.1, 1.0, (3, 60))
    scaled = improvements * np.array([[1.0], [50.0], [0.01]])
    assert p_values(scaled) == pytest.approx(p_values(improvements))


def test_a_loss_per_token_weighs_examples_by_their_tokens() -> None:
    gain = best_gain(np.array([[10.0, 0.0]]), np.array([10, 90]))
    assert gain.gain == pytest.approx(0.1)


def test_the_interval_covers_the_true_loss_as_often_as_it_states() -> None:
    random = np.random.default_rng(6)
    covered = 0
    for _ in range(200):
        tokens = random.integers(5, 50, 100)
        losses = random.gamma(2.0, 0.5, 100) * tokens
        interval = ratio_interval(losses, tokens)
        assert interval
        covered += interval.low <= 1.0 <= interval.high
    assert covered / 200 == pytest.approx(0.95, abs=0.05)


@pytest.mark.parametrize(("right", "low", "high"), [(0, 0.0, 0.0370), (100, 0.9630, 1.0)])
def test_an_interval_of_answers_that_are_all_alike_is_not_empty(
    right: int, low: float, high: float
) -> None:
    interval = share_interval(np.arange(100) < right)
    assert interval == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("losses", [[1.0], [1.0, np.nan], [1.0, np.inf], []])
def test_there_is_no_interval_of_what_has_none(losses: list[float]) -> None:
    assert ratio_interval(np.array(losses), np.ones(len(losses))) is None


def test_equal_losses_have_an_interval_without_width() -> None:
    assert ratio_interval(np.full(50, 2.0), np.ones(50)) == (2.0, 2.0)


def test_the_smallest_difference_shrinks_with_the_square_root_of_the_examples() -> None:
    hundred, four_hundred = smallest_share_difference(100), smallest_share_difference(400)
    assert hundred / four_hundred == pytest.approx(2.0, rel=0.05)
    # n = (z_a sqrt(s) + z_b sqrt(s - d^2))^2 / d^2, with s = 0.5 and d = 0.1743
    assert hundred == pytest.approx(0.1743, abs=5e-4)


@pytest.mark.parametrize("examples", [0, 1, 2])
def test_too_few_examples_show_nothing(examples: int) -> None:
    assert smallest_share_difference(examples) == 1.0
