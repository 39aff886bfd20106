"""A tokenized dataset in numbers, and as a small picture. It knows lengths, not texts."""

from typing import Any

import numpy as np

from dolly_assets.core.png import png

HISTOGRAM_BINS = 20


def describe(
    *,
    train_lengths: np.ndarray,
    train_labels: np.ndarray,
    rows: int,
    max_length: int,
    held_out_examples: int,
    dropped_too_long: int,
) -> dict[str, Any]:
    """Return counts of what is trained on, ready for JSON.

    `row_fill` is the share of `max_length` that an average row uses, and
    `processed_per_real_if_padded` the number of tokens that would be processed for each real one if
    rows were padded to `max_length`. `length_histogram` has `edges` (in tokens, one more than there
    are bins) and `counts` (training examples per bin, the lower edge included).

    Args:
        train_lengths: Tokens of each training example.
        train_labels: Labelled tokens of each training example.
        rows: Number of rows that the training examples share.
        max_length: Length of the longest row in tokens.
        held_out_examples: Number of held-out examples.
        dropped_too_long: Number of examples that were dropped as too long.
    """
    train_tokens = int(train_lengths.sum())
    labelled_tokens = int(train_labels.sum())
    bin_width = -(-(int(train_lengths.max()) + 1) // HISTOGRAM_BINS)
    edges = np.arange(HISTOGRAM_BINS + 1) * bin_width
    counts, _ = np.histogram(train_lengths, bins=edges)
    return {
        "examples": len(train_lengths) + held_out_examples + dropped_too_long,
        "train_examples": len(train_lengths),
        "held_out_examples": held_out_examples,
        "dropped_too_long": dropped_too_long,
        "train_tokens": train_tokens,
        "labelled_tokens": labelled_tokens,
        "labelled_share": labelled_tokens / train_tokens,
        "rows": rows,
        "row_fill": train_tokens / (rows * max_length),
        "examples_per_row": len(train_lengths) / rows,
        "processed_per_real_if_padded": rows * max_length / train_tokens,
        "length_mean": float(train_lengths.mean()),
        "length_p50": float(np.percentile(train_lengths, 50)),
        "length_p95": float(np.percentile(train_lengths, 95)),
        "length_max": int(train_lengths.max()),
        "length_histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def length_histogram_png(statistics: dict[str, Any]) -> bytes:
    """Return `length_histogram` of `describe` as a small PNG."""
    import altair

    edges, counts = (
        statistics["length_histogram"]["edges"],
        statistics["length_histogram"]["counts"],
    )
    bars = [
        {"from": lower, "to": upper, "examples": count}
        for lower, upper, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    chart = (
        altair.Chart(altair.Data(values=bars), width=360, height=120)
        .mark_bar()
        .encode(
            x=altair.X("from:Q", bin="binned", title="tokens per training example"),
            x2="to:Q",
            y=altair.Y("examples:Q", title="examples"),
        )
    )
    return png(chart.to_dict())
