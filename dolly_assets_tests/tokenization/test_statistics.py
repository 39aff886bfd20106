import numpy as np

from dolly_assets.tokenization.statistics import describe, length_histogram_png


def describe_lengths(lengths):
    return describe(
        train_lengths=np.array(lengths),
        train_labels=np.array(lengths) - 2,
        rows=len(lengths),
        max_length=64,
        held_out_examples=0,
        dropped_too_long=0,
    )


def test_the_histogram_counts_every_length_once() -> None:
    histogram = describe_lengths([3, 39, 40, 41, 40])["length_histogram"]
    assert histogram["edges"][:3] == [0, 3, 6]
    assert sum(histogram["counts"]) == 5
    assert histogram["counts"][1] == 1
    assert histogram["counts"][13] == 4


def test_the_histogram_is_drawn_as_png() -> None:
    assert length_histogram_png(describe_lengths([3, 40, 40])).startswith(b"\x89PNG")
