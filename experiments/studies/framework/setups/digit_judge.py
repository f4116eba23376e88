"""A judge of digits with a reject class: what is no digit is named none."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np

from gan_jax.data import load
from gan_jax.data.arrays import decode
from gan_jax.metrics.classifier import classifier_for
from gan_jax.metrics.features import extract
from gan_jax.metrics.memorization import nearest

ACCEPTED = 0.99
"""The share of digits that the judge accepts, of those that it does not compare with."""
REJECTED = -1


def judged(images: np.ndarray, data: str = "digits") -> np.ndarray:
    """The digit of each image `[N, S, S, 1]` in [-1, 1], or -1 where it is none.

    Every other digit of the data is what the judge compares with. An image is a digit if one of these lies as near
    to it as to 99 % of the other half, and then the one that the library's classifier names, which by itself names
    noise too. Noise, grey and inverted digits are rejected; a cross-fade of two digits is mostly not, nor
    at 28 x 28 is a dark blur.

    Args:
      images: to be judged.
      data: the digits' name, of which a classifier is stored.
    """
    logits = extract(classifier_for(data), images, batch_size=2000).logits
    assert logits is not None
    digits, reach = reference(data)
    flat = np.asarray(images, np.float32).reshape(len(images), -1)
    return np.where(nearest(flat, digits)[1] <= reach, np.asarray(logits).argmax(axis=1), REJECTED)


@functools.cache
def reference(data: str) -> tuple[np.ndarray, float]:
    """The digits that the judge compares with `[N, S^2]`, and how near to one of them an image has to be."""
    digits = np.asarray(decode(jnp.asarray(load(data)["x"])), np.float32)
    known, other = (digits[first::2].reshape(-1, digits[0].size) for first in (0, 1))
    return known, float(np.quantile(nearest(other, known)[1], ACCEPTED))
