"""The useful arithmetic of a round, in multiply-adds of the mathematics for one example.

Only products of activations and kernels count, which neither side can do without: no normalisation, no optimiser,
no draws, none of the zeros of a dilated image. A layer's product, its gradient by the input and its gradient by
the kernel have the same number of multiply-adds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Multiplications(NamedTuple):
    """Multiply-adds an example of each layer of the two players, first to last."""

    generator: Sequence[int]
    critic: Sequence[int]


def dense(inputs: int, outputs: int) -> int:
    """Of a dense layer."""
    return inputs * outputs


def dense_stack(*sizes: int) -> list[int]:
    """Of the layers of a perceptron.

    >>> dense_stack(2, 128, 1)
    [256, 128]
    """
    return [dense(a, b) for a, b in itertools.pairwise(sizes)]


def convolution(small: int, kernel: int, inputs: int, outputs: int) -> int:
    """Of a strided convolution down to, or a transposed one up from, an image of `small` x `small`.

    >>> convolution(14, 4, 1, 64)
    200704
    """
    return small * small * kernel * kernel * inputs * outputs


def critic_turn(layers: Multiplications) -> int:
    """Fakes forward; the critic on real and fake, forward and backward to its parameters."""
    return sum(layers.generator) + 2 * (3 * sum(layers.critic) - layers.critic[0])


def generator_turn(layers: Multiplications) -> int:
    """The critic on fakes forward and backward to them, the generator forward and backward to its parameters."""
    return 2 * sum(layers.critic) + 3 * sum(layers.generator) - layers.generator[0]


def real_penalty(layers: Multiplications) -> int:
    """The penalty on the critic's gradient by its input where its scores are known, and the penalty's derivative.

    With piecewise linear activations and no normalisation these are three products a layer: the gradient, and its
    derivatives by the gradient behind it and by the kernel. The last layer's gradient is its kernel: no product.
    """
    return 3 * (sum(layers.critic) - layers.critic[-1])


def interpolate_penalty(layers: Multiplications) -> int:
    """As `real_penalty` on a batch of its own, which the critic has to see first."""
    return real_penalty(layers) + sum(layers.critic) - layers.critic[-1]
