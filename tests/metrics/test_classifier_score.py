"""The Inception-style score against its definition and its extremes."""

import numpy as np
import pytest
from scipy import stats

from gan_jax.metrics import classifier_score
from gan_jax.metrics.score import score_bootstrap


def test_extremes():
    confident = 60.0 * np.eye(5)[np.arange(1000) % 5]
    assert classifier_score(confident, splits=1).mean == pytest.approx(5.0)
    assert classifier_score(np.zeros((100, 5))) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-12))
    one_class = np.tile([60.0, 0.0, 0.0], (100, 1))
    assert classifier_score(one_class).mean == pytest.approx(1.0)


def test_splits_in_order_equal_the_definition():
    logits = np.random.default_rng(0).normal(size=(90, 4)) * 3
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = []
    for part in (p[:30], p[30:60], p[60:]):
        scores.append(np.exp(np.mean([stats.entropy(row, part.mean(0)) for row in part])))
    found = classifier_score(logits, splits=3, seed=None)
    assert found.mean == pytest.approx(np.mean(scores))
    assert found.std == pytest.approx(np.std(scores))


def test_splits_that_do_not_divide_are_cut_where_the_original_cuts():
    """From i N // splits to (i + 1) N // splits: 11 samples in 3 parts are 3, 4 and 4 of them."""
    p = np.random.default_rng(1).dirichlet(np.ones(4), size=11)
    parts = (p[:3], p[3:7], p[7:])
    scores = [np.exp(np.mean([stats.entropy(row, part.mean(0)) for row in part])) for part in parts]
    found = classifier_score(np.log(p), splits=3, seed=None)
    assert found.mean == pytest.approx(np.mean(scores), rel=1e-12)
    assert found.std == pytest.approx(np.std(scores), rel=1e-12)


def test_contiguous_splits_have_their_size_and_the_last_one_the_rest():
    p = np.random.default_rng(2).dirichlet(np.ones(4), size=11)
    scores = [
        np.exp(np.mean([stats.entropy(row, part.mean(0)) for row in part])) for part in (p[:4], p[4:8], p[8:])
    ]
    found = classifier_score(np.log(p), split_size=4, seed=None)
    assert found.mean == pytest.approx(np.mean(scores), rel=1e-12)
    whole = classifier_score(np.log(p), split_size=5000, seed=None)
    assert whole.mean == pytest.approx(classifier_score(np.log(p), splits=1, seed=None).mean)
    with pytest.raises(ValueError, match="split_size 0"):
        classifier_score(np.log(p), split_size=0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="at least 10 samples, got 5"):
        classifier_score(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="NaN"):
        classifier_score(np.full((10, 3), np.nan))
    with pytest.raises(ValueError, match=r"\[N, C\]"):
        classifier_score(np.zeros(20))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_probabilities_are_no_logits(dtype):
    """Their softmax is nearly uniform: ten classes, each certain, would score 1.1 in place of 10."""
    logits = 20.0 * np.eye(10)[np.arange(1000) % 10]
    p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(dtype)
    with pytest.raises(ValueError, match="these are probabilities"):
        classifier_score(p)
    with pytest.raises(ValueError, match="these are probabilities"):
        score_bootstrap([logits, p])
    given = np.log(np.maximum(np.float64(p), 1e-30))
    assert classifier_score(given, splits=1).mean == pytest.approx(10.0, rel=1e-6)
