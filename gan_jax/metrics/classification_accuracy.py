"""The classification accuracy score (Ravuri and Vinyals, 2019): train on samples, test on real data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.metrics.classifier import train_classifier
from gan_jax.metrics.features import Extractor, classify


class ClassificationAccuracy(NamedTuple):
    """The accuracy on real data of a classifier that was trained on samples.

    Attributes:
      value: the share of real images whose class it finds.
      low, high: its interval over the real images (Wilson, 1927); another training gives another classifier.
      classes: `[K]`, the real classes, in ascending order.
      by_class: `[K]`, the accuracy on each; a class that the generator lost is near 0.
      classifier: the name of the classifier, since another one gives another score.
    """

    value: float
    low: float
    high: float
    classes: np.ndarray
    by_class: np.ndarray
    classifier: str

    def __float__(self) -> float:
        return self.value


def classification_accuracy_score(
    fake: ArrayLike,
    fake_labels: ArrayLike,
    real: ArrayLike,
    real_labels: ArrayLike,
    *,
    train: Callable[[np.ndarray, np.ndarray], Extractor] | None = None,
    seed: int = 0,
    level: float = 0.95,
    **options: Any,
) -> ClassificationAccuracy:
    """The accuracy on real images of a classifier trained on a conditional generator's samples.

    The paper trains ResNet-50 on ImageNet; here it is the small classifier of `train_classifier` unless `train`
    says otherwise, and only scores of one classifier are comparable. The score of real training images in place of
    the samples is what it is compared with.

    Time is that of the training and O(M) forward passes; all images are in memory, as floats too: O((N + M) H W
    C).

    Args:
      fake: images `[N, H, W, C]`, uint8 or floats in [-1, 1].
      fake_labels: `[N]`, the classes that they were asked for, integers from 0.
      real: images `[M, H, W, C]` that the generator was not trained on.
      real_labels: `[M]`, their classes.
      train: `(images, labels) -> Extractor` with logits; by default `train_classifier` with all samples but one.
      seed: the seed of the default's training.
      level: the confidence level of the interval.
      options: see `extract`, for the classifier on the real images.

    Raises:
      ValueError: for bad images or labels.

    References:
      Ravuri and Vinyals, Classification Accuracy Score for Conditional Generative Models, 2019 (arXiv:1905.10887).
    """
    from scipy.stats import binomtest  # imported here, as it takes half a second

    given, labels = np.asarray(fake), np.asarray(fake_labels)
    truth = np.asarray(real_labels)
    if truth.shape != (len(np.asarray(real)),) or truth.dtype.kind not in "iu":
        raise ValueError(f"Real labels must be integers, one an image; got {truth.dtype} {truth.shape}.")
    if train is None:
        classifier = train_classifier(
            given, labels, name="small classifier of samples", held_out=1 / max(len(given), 1), seed=seed
        )
    else:
        classifier = train(given, labels)
    right = classify(classifier, real, **options) == truth
    classes = np.unique(truth)
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(level, method="wilson")
    return ClassificationAccuracy(
        value=float(right.mean()),
        low=float(interval.low),
        high=float(interval.high),
        classes=classes,
        by_class=np.array([right[truth == label].mean() for label in classes]),
        classifier=classifier.name,
    )
