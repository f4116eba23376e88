"""Parts of data: seeded, and of every class its share."""

import numpy as np
import pytest

from gan_jax.data.subsample import subsample


def test_every_class_has_its_share_whatever_the_order():
    labels = np.repeat([0, 5, 9], [600, 300, 100])
    rows = subsample(1000, 100, labels)
    assert len(np.unique(rows)) == 100
    np.testing.assert_array_equal(rows, np.sort(rows))
    assert np.unique(labels[rows], return_counts=True)[1].tolist() == [60, 30, 10]
    shuffled = np.random.default_rng(0).permutation(labels)
    again = subsample(1000, 100, shuffled)
    assert np.unique(shuffled[again], return_counts=True)[1].tolist() == [60, 30, 10]
    np.testing.assert_array_equal(rows, subsample(1000, 100, labels))
    assert not np.array_equal(rows, subsample(1000, 100, labels, seed=1))


def test_a_rare_class_is_shown():
    labels = np.array(["common"] * 998 + ["rare", "rarer"])
    assert set(labels[subsample(1000, 10, labels)]) == {"common", "rare", "rarer"}
    assert len(subsample(1000, 2, labels)) == 2


def test_without_labels_rows_are_drawn_from_everywhere():
    """200 draws of 10 of 100 rows: each is drawn 20 times in expectation, standard deviation 4.2."""
    drawn = np.bincount(np.concatenate([subsample(100, 10, seed=s) for s in range(200)]), minlength=100)
    assert drawn.sum() == 2000
    assert np.abs(drawn - 20).max() < 5 * 4.3
    several = np.zeros((100, 40), int)
    np.testing.assert_array_equal(subsample(100, 10, several), subsample(100, 10))


def test_all_rows_where_all_are_wanted():
    np.testing.assert_array_equal(subsample(7, 7), np.arange(7))
    np.testing.assert_array_equal(subsample(7, 50_000, np.zeros(7)), np.arange(7))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="1 example or more, got 0"):
        subsample(7, 0)
    with pytest.raises(ValueError, match="7 examples and 6 labels"):
        subsample(7, 3, np.zeros(6))
