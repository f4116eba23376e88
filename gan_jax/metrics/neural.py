"""Neural-net distance: `sup |E_P D - E_Q D|` over a family of critics of bounded size (Arora et al., 2017)."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from gan_jax.metrics._check import as_pair
from gan_jax.metrics.two_sample import TwoSampleResult, permutation_result, relabellings
from gan_jax.precision import at_highest_precision
from gan_jax.types import Array, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticFamily:
    """ReLU networks with values in [0, 1] and bounded weights; the family contains 1 - D for every D.

    Values in [0, 1] make the distance at most the total variation; bounded size and weights make it estimable from
    finitely many samples.

    Attributes:
      width: units of each hidden layer.
      depth: the number of hidden layers; 0 is a logistic regression.
      bound: the largest magnitude of weights and biases.

    Raises:
      ValueError: if a number is out of range.
    """

    width: int = 32
    depth: int = 1
    bound: float = 2.0

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 0 or not self.bound > 0:
            raise ValueError(
                f"A critic family needs width >= 1, depth >= 0 and a positive bound, got {self}."
            )

    @property
    def name(self) -> str:
        """A description of the family, for reports of its distance."""
        hidden = "-".join([str(self.width)] * self.depth)
        return f"sigmoid of ReLU network D-{hidden + '-' if hidden else ''}1, |weights| <= {self.bound:g}"


def init_critic(key: Key, family: CriticFamily, dimension: int) -> list[tuple[Array, Array]]:
    """He-initialised layers, inside the bound."""
    sizes = [dimension, *[family.width] * family.depth, 1]
    layers = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        draw = jax.random.normal(jax.random.fold_in(key, i), (fan_in, fan_out))
        weights = jnp.clip(draw * jnp.sqrt(2.0 / fan_in), -family.bound, family.bound)
        layers.append((weights, jnp.zeros(fan_out)))
    return layers


@at_highest_precision
def apply_critic(layers: list[tuple[Array, Array]], x: Array) -> Array:
    """`[B, D] -> [B]`, in [0, 1]."""
    for weights, bias in layers[:-1]:
        x = jax.nn.relu(x @ weights + bias)
    weights, bias = layers[-1]
    return jax.nn.sigmoid((x @ weights + bias)[:, 0])


@functools.partial(jax.jit, static_argnums=(3, 4))
def _train(key: Key, real: Array, fake: Array, family: CriticFamily, steps: int, rate: Array) -> Any:
    """Ascends `E D(real) - E D(fake)` by Adam, weights clipped to the family's bound after every step."""
    layers = init_critic(key, family, real.shape[1])
    optimizer = optax.adam(rate)

    def loss(layers: list[tuple[Array, Array]]) -> Array:
        return apply_critic(layers, fake).mean() - apply_critic(layers, real).mean()

    def step(carry: Any, _: None) -> tuple[Any, None]:
        layers, state = carry
        updates, state = optimizer.update(jax.grad(loss)(layers), state)
        moved = optax.apply_updates(layers, updates)
        return (jax.tree.map(lambda w: jnp.clip(w, -family.bound, family.bound), moved), state), None

    (layers, _), _ = jax.lax.scan(step, (layers, optimizer.init(layers)), None, length=steps)
    return layers, -loss(layers)


_scores = jax.jit(apply_critic)


class NeuralDistance(NamedTuple):
    """A neural-net distance with a test of its significance.

    Attributes:
      value: `mean D(real) - mean D(fake)` of the trained critic on held-out samples: in expectation a lower bound
        of the family's distance between the distributions.
      trained: the same on its training samples: a lower bound of the family's distance between those.
      standard_error: the standard error of `value` for a fixed critic.
      test: the permutation test of `value`.
    """

    value: float
    trained: float
    standard_error: float
    test: TwoSampleResult

    def __float__(self) -> float:
        return self.value


def neural_distance(
    real: ArrayLike,
    fake: ArrayLike,
    family: CriticFamily = CriticFamily(),
    *,
    steps: int = 300,
    learning_rate: float = 0.02,
    permutations: int = 499,
    seed: int = 0,
) -> NeuralDistance:
    """Trains a critic of a family on half of the samples and measures the distance on the other half.

    Inputs are standardised by the pooled mean and standard deviation of every coordinate. Given the critic,
    held-out samples are exchangeable under the null hypothesis, so permuting their scores' labels is an exact
    test. Time is O(steps (N + M) D) for a critic of fixed width, memory O((N + M) D).

    Args:
      real: `[N, ...]`, N >= 4.
      fake: `[M, ...]`, M >= 4.
      family: the family of critics.
      steps: full-batch Adam steps.
      learning_rate: Adam's learning rate.
      permutations: relabellings of the held-out scores.
      seed: the seed of the split, the initial critic and the relabellings.

    Raises:
      ValueError: for bad samples or fewer than four of either set.

    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> found = neural_distance(x[:100], x[100:] + 20.0, steps=50)
    >>> found.value > 0.9, found.test.p_value
    (True, 0.002)
    """
    first, second = as_pair(real, fake, at_least=4)
    pooled = np.concatenate([first, second])
    center, spread = pooled.mean(axis=0), pooled.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    rng = np.random.default_rng(seed)
    shuffled = [
        ((side - center) / scale).astype(np.float32)[rng.permutation(len(side))] for side in (first, second)
    ]
    training = [side[len(side) // 2 :] for side in shuffled]
    held_out = [side[: len(side) // 2] for side in shuffled]
    rate = jnp.float32(learning_rate)
    layers, trained = _train(jax.random.key(seed), *map(jnp.asarray, training), family, steps, rate)
    scores = [np.asarray(_scores(layers, jnp.asarray(side)), dtype=np.float64) for side in held_out]
    n, m = len(scores[0]), len(scores[1])
    members = relabellings(n, m, permutations, seed)
    all_scores = np.concatenate(scores)
    sums = members @ all_scores
    values = sums / n - (all_scores.sum() - sums) / m
    details = {
        "test": "neural-net distance",
        "family": family.name,
        "steps": steps,
        "learning_rate": learning_rate,
        "real": n,
        "fake": m,
        "seed": seed,
    }
    error = float(np.sqrt(sum(side.var(ddof=1) / len(side) for side in scores)))
    return NeuralDistance(float(values[0]), float(trained), error, permutation_result(values, details))
