"""How often the champion's rule errs, over simulated held-out splits.

    python benchmarks/champion.py [--pairs 2000] [--examples 200]

Of two models without a difference, one is promoted in at most 5 % of the pairs, also as the best of
ten epochs; of two that differ by the smallest difference that `power.py` states, the better one in
80 %. The paired test is compared with SciPy's exact binomial test, which is McNemar's.
"""

import argparse
import json
import math

import numpy as np
import pyarrow as pa

from dolly_assets.scoring import ChampionRule
from dolly_assets.scoring.champion import Contender, decide
from dolly_assets.scoring.examples import SCORES_SCHEMA
from dolly_assets.scoring.paired import best_gain
from dolly_assets.scoring.power import smallest_share_difference

LABELLED_TOKENS = 30
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
    result = {
        "pairs": pairs,
        "held_out_examples": count,
        "smallest_difference": smallest,
        "promoted_without_a_difference": {
            "exact match": share_promoted(random, pairs, count, 0.0, epochs=1),
            "exact match, best of ten epochs": share_promoted(random, pairs, count, 0.0, epochs=10),
            "held-out loss": share_promoted_by_loss(random, pairs, count, 0.0),
        },
        "promoted_at_the_smallest_difference": share_promoted(
            random, pairs, count, smallest, epochs=1
        ),
        "largest_distance_from_mcnemar": distance_from_mcnemar(random, 200, count),
    }
    print(json.dumps(result, indent=1))


def share_promoted(
    random: np.random.Generator, pairs: int, examples: int, difference: float, *, epochs: int
) -> float:
    """Return the share of the pairs in which an epoch replaces the champion, by exact match."""
    promoted = 0
    for _ in range(pairs):
        old = random.random(examples) < 0.5 - difference / 2
        new = [random.random(examples) < 0.5 + difference / 2]
        while len(new) < epochs:
            again = random.random(examples) < 0.5 + difference / 2
            new.append(np.where(random.random(examples) < SIMILARITY, new[-1], again))
        promoted += is_promoted([scores(right) for right in new], scores(old), exact=True)
    return promoted / pairs


def share_promoted_by_loss(
    random: np.random.Generator, pairs: int, examples: int, difference: float
) -> float:
    """Return the share of the pairs in which an epoch replaces the champion, by its loss."""
    promoted = 0
    for _ in range(pairs):
        old = random.gamma(2.0, 0.5, examples)
        new = old - difference + random.standard_t(4, examples) * 0.3
        right = np.zeros(examples, dtype=bool)
        promoted += is_promoted([scores(right, new)], scores(right, old), exact=False)
    return promoted / pairs


def is_promoted(candidates: list[pa.Table], champion: pa.Table, *, exact: bool) -> bool:
    """Whether the default rule promotes one of the candidates."""
    contenders = [Contender(f"epoch {n}", str(n), each) for n, each in enumerate(candidates, 1)]
    decision = decide(ChampionRule(), contenders, Contender("base", "0", champion), exact=exact)
    return decision.verdict == "promoted"


def scores(right: np.ndarray, loss: np.ndarray | None = None) -> pa.Table:
    """Return a table of scores with these answers and losses per token."""
    count = len(right)
    loss_of_each = np.ones(count) if loss is None else loss
    columns = {
        "record": range(count),
        "category": [""] * count,
        "labelled_tokens": [LABELLED_TOKENS] * count,
        "loss": loss_of_each * LABELLED_TOKENS,
        "prompt": [""] * count,
        "expected": ["yes"] * count,
        "answer": np.where(right, "yes", "no").tolist(),
        "is_exact": right.tolist(),
        "token_f1": right.astype(float).tolist(),
    }
    return pa.table(columns, schema=SCORES_SCHEMA)


def distance_from_mcnemar(random: np.random.Generator, pairs: int, examples: int) -> float:
    """Return the largest difference in p-value to the exact test, in standard errors of ours."""
    from scipy.stats import binomtest

    largest = 0.0
    for _ in range(pairs):
        new, old = (random.random(examples) < share for share in (0.55, 0.5))
        improvements = new.astype(float) - old
        wins, losses = int((improvements > 0).sum()), int((improvements < 0).sum())
        exact = binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue
        ours = best_gain(improvements[None], np.ones(examples)).p_value
        error = math.sqrt(max(float(exact) * (1 - float(exact)), 1e-6) / 9_999)
        largest = max(largest, abs(ours - float(exact)) / error)
    return largest


if __name__ == "__main__":
    main()
