"""How often the champion's rule errs, over simulated held-out splits.

    python benchmarks/champion.py [--pairs 2000] [--examples 200]

Of two models without a difference, one is promoted in at most 5 % of the pairs, also as the best of
ten epochs and where answers are mostly right; of two that differ by the smallest difference that
`power.py` states, the better one in 80 %. P-values are compared with SciPy's exact binomial test,
which is McNemar's, and with its permutation test; intervals with how often they hold the true gain.
2,000 pairs take a few minutes on one core.
"""

import argparse
import functools
import json
import math

import numpy as np
import pyarrow as pa

from dolly_assets.scoring import ChampionRule
from dolly_assets.scoring.champion import decide
from dolly_assets.scoring.contender import Contender
from dolly_assets.scoring.examples import SCORES_SCHEMA
from dolly_assets.scoring.paired import best_gain, p_values
from dolly_assets.scoring.power import smallest_share_difference

LABELLED_TOKENS = 30
RULE_EVERY = 20  # of the pairs one goes through the whole rule, whose intervals take longest
SIMILARITY = 0.8  # share of the examples for which an epoch answers as the epoch before


def main() -> None:
    """Print the shares as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--examples", type=int, default=200)
    arguments = parser.parse_args()
    random = np.random.default_rng(1)
    count, pairs = arguments.examples, arguments.pairs
    smallest = smallest_share_difference(count)
    nothing = {
        f"exact match of {right:.0%}, {epochs} epochs": share_promoted(
            random, pairs, count, right, right, epochs=epochs
        )
        for right in (0.5, 0.9)
        for epochs in (1, 10)
    }
    nothing |= {
        f"held-out loss, {epochs} epochs": share_promoted_by_loss(
            random, pairs, count, epochs=epochs
        )
        for epochs in (1, 10)
    }
    half = smallest / 2
    result = {
        "pairs": pairs,
        "held_out_examples": count,
        "standard_error_at_5_percent": math.sqrt(0.05 * 0.95 / pairs),
        "promoted_without_a_difference": nothing,
        "smallest_difference": smallest,
        "promoted_at_the_smallest_difference": share_promoted(
            random, pairs, count, 0.5 + half, 0.5 - half, epochs=1
        ),
        "largest_distance_from_mcnemar": distance_from_mcnemar(random, pairs, count),
        "largest_distance_from_scipys_permutations": distance_from_permutations(random, 20, count),
        "intervals_that_hold_the_true_gain": share_covered(random, min(pairs, 500), count),
    }
    print(json.dumps(result, indent=1))


def share_promoted(
    random: np.random.Generator, pairs: int, examples: int, new: float, old: float, *, epochs: int
) -> float:
    """Return the share of the pairs in which an epoch replaces the champion, by exact match.

    Args:
        random: Draws the answers.
        pairs: How many.
        examples: Held-out examples of each.
        new: The share that each epoch answers right.
        old: The share that the champion answers right.
        epochs: How many epochs there are; each answers most examples as the epoch before.
    """
    promoted = 0
    for pair in range(pairs):
        champion = random.random(examples) < old
        answers = [random.random(examples) < new]
        while len(answers) < epochs:
            again = random.random(examples) < new
            answers.append(np.where(random.random(examples) < SIMILARITY, answers[-1], again))
        is_better = is_promoted(np.stack(answers) - champion.astype(float))
        if pair % RULE_EVERY == 0:
            tables = [scores(right) for right in answers]
            assert is_better == is_promoted_by_rule(tables, scores(champion), exact=True)
        promoted += is_better
    return promoted / pairs


def share_promoted_by_loss(
    random: np.random.Generator, pairs: int, examples: int, *, epochs: int
) -> float:
    """Return the share of the pairs in which an epoch replaces the champion, by its loss.

    Every loss is that of its example with noise of heavy tails, the champion's too.
    """
    promoted, right = 0, np.zeros(examples, dtype=bool)
    for pair in range(pairs):
        of_example = random.gamma(2.0, 0.5, examples)
        champion = of_example + random.standard_t(4, examples) * 0.3
        losses = of_example + random.standard_t(4, (epochs, examples)) * 0.3
        is_better = is_promoted(champion - losses)
        if pair % RULE_EVERY == 0:
            tables = [scores(right, each) for each in losses]
            assert is_better == is_promoted_by_rule(tables, scores(right, champion), exact=False)
        promoted += is_better
    return promoted / pairs


def is_promoted(improvements: np.ndarray) -> bool:
    """Whether the default rule's test promotes the best of (epochs, examples) of improvements."""
    best = improvements.sum(axis=1).argmax()
    is_better = improvements[best].sum() > 0
    return bool(is_better and p_values(improvements)[best] <= ChampionRule().significance)


def is_promoted_by_rule(candidates: list[pa.Table], champion: pa.Table, *, exact: bool) -> bool:
    """Whether the default rule promotes one of the candidates."""
    contenders = [Contender(f"epoch {n}", str(n), each) for n, each in enumerate(candidates, 1)]
    decision = decide(ChampionRule(), contenders, Contender("base", "0", champion), exact=exact)
    return decision.verdict == "promoted"


def scores(right: np.ndarray, loss: np.ndarray | None = None) -> pa.Table:
    """Return a table of scores with these answers and losses per token."""
    count = len(right)
    loss_of_each = np.ones(count) if loss is None else loss
    columns = {
        **_constant(count),
        "loss": pa.array(loss_of_each * LABELLED_TOKENS),
        "is_exact": pa.array(right),
        "token_f1": pa.array(right.astype(float)),
    }
    return pa.table([columns[name] for name in SCORES_SCHEMA.names], schema=SCORES_SCHEMA)


@functools.cache
def _constant(count: int) -> dict[str, pa.Array]:
    """Return the columns that no comparison depends on, or that are the same in all tables."""
    text = pa.array([""] * count)
    return {
        "record": pa.array(range(count)),
        "category": text,
        "labelled_tokens": pa.array([LABELLED_TOKENS] * count, pa.int32()),
        "prompt": text,
        "expected": text,
        "answer": text,
    }


def distance_from_mcnemar(random: np.random.Generator, pairs: int, examples: int) -> float:
    """Return the largest difference in p-value to SciPy's exact binomial test."""
    from scipy.stats import binomtest

    largest = 0.0
    for _ in range(pairs):
        new, old = (random.random(examples) < share for share in (0.55, 0.5))
        improvements = new.astype(float) - old
        wins, losses = int((improvements > 0).sum()), int((improvements < 0).sum())
        exact = binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue
        largest = max(largest, abs(p_values(improvements[None])[0] - float(exact)))
    return largest


def distance_from_permutations(random: np.random.Generator, pairs: int, examples: int) -> float:
    """Return the largest difference in p-value to SciPy's permutation test of losses."""
    from scipy.stats import permutation_test

    largest = 0.0
    for _ in range(pairs):
        gained = random.standard_t(4, examples) * 0.3 + 0.02
        theirs = permutation_test(
            (gained, np.zeros(examples)),
            lambda new, old, axis: (new - old).sum(axis=axis),
            permutation_type="samples",
            alternative="greater",
            n_resamples=9_999,
            vectorized=True,
            batch=1_000,
            rng=random,
        ).pvalue
        largest = max(largest, abs(p_values(gained[None])[0] - float(theirs)))
    return largest


def share_covered(random: np.random.Generator, pairs: int, examples: int) -> float:
    """Return how often the 95 % interval of a gain in exact match holds the true gain."""
    covered = 0
    for _ in range(pairs):
        new, old = (random.random(examples) < share for share in (0.6, 0.5))
        interval = best_gain((new.astype(float) - old)[None], np.ones(examples)).interval
        covered += bool(interval and interval.low <= 0.1 <= interval.high)
    return covered / pairs


if __name__ == "__main__":
    main()
