"""What goes into a network beside its first input, and what comes out of a critic beside its score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_jax.functional.batch import flatten
from gan_jax.networks.layers import Dense, at_least_float32
from gan_jax.types import Array


def condition_vector(conditions: tuple[Array, ...], num_classes: int | None) -> Array | None:
    """All conditions as one vector `[B, D]`: integer labels one-hot, anything else flattened; `None` without any.

    Raises:
      ValueError: for labels without `num_classes`, and for a network of classes that is given no label.

    >>> condition_vector((jnp.array([2, 0]), jnp.ones((2, 1))), 3)
    Array([[0., 0., 1., 1.],
           [1., 0., 0., 1.]], dtype=float32)
    """
    if not conditions:
        if num_classes is not None:
            raise ValueError(f"The network has num_classes={num_classes} but was called without a label y.")
        return None
    vectors = []
    for condition in conditions:
        if jnp.issubdtype(condition.dtype, jnp.integer):
            vectors.append(one_hot(condition, num_classes))
        else:
            vectors.append(flatten(condition))
    return jnp.concatenate(vectors, axis=-1)


def with_conditions(x: Array, conditions: tuple[Array, ...], num_classes: int | None) -> Array:
    """`x` with its conditions beside it: vectors are appended to vectors, planes of them to images' channels."""
    vector = condition_vector(conditions, num_classes)
    if vector is None:
        return x
    if x.ndim == 4:
        vector = jnp.broadcast_to(vector[:, None, None, :], (*x.shape[:3], vector.shape[-1]))
    return jnp.concatenate([x, vector.astype(x.dtype)], axis=-1)


def one_hot(y: Array, num_classes: int | None) -> Array:
    """Integer labels `[B]` as `[B, num_classes]`.

    Raises:
      ValueError: without `num_classes`, or for labels of another shape.
    """
    if num_classes is None:
        raise ValueError("The network was given integer labels: build it with num_classes=...")
    if y.ndim != 1:
        raise ValueError(f"Labels are integers [B], got shape {y.shape}.")
    return jax.nn.one_hot(y, num_classes)


class Scores(nn.Module):
    """A critic's last layer: the score, and further heads where they are asked for.

    Attributes:
      heads: name -> size of a linear head `[B, size]`: class logits (AC-GAN, K + 1), codes (InfoGAN).
      features: whether to hand out the last hidden layer as the head `features` (feature matching).
      projection: number of classes of a projection term `<embedding(y), h>` in the score (Miyato & Koyama 2018).
      weight: reparametrisation of the kernels.
      kernel_init: initialiser of the kernels.
      dtype: of the computation; everything handed out is float32.
    """

    heads: Mapping[str, int] | None = None
    features: bool = False
    projection: int | None = None
    weight: Callable[[], nn.Module] | None = None
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, h: Array, y: Array | None = None) -> Any:
        """`h [B, D]` to the score `[B]`, or to a mapping with `score` and the heads."""

        def linear(size: int, name: str) -> Dense:
            return Dense(size, weight=self.weight, kernel_init=self.kernel_init, dtype=self.dtype, name=name)

        score = linear(1, "score")(h)[:, 0]
        if self.projection is not None:
            if y is None:
                raise ValueError("A projection critic is called with labels: apply(params, stats, x, y).")
            label = one_hot(y, self.projection)
            embedding = Dense(
                h.shape[-1],
                use_bias=False,
                weight=self.weight,
                kernel_init=self.kernel_init,
                dtype=self.dtype,
                name="projection",
            )(label)
            score = score + jnp.sum(embedding * h, axis=-1)
        score = at_least_float32(score)
        if not self.heads and not self.features:
            return score
        out = {"score": score}
        for name, size in (self.heads or {}).items():
            out[name] = at_least_float32(linear(size, name)(h))
        if self.features:
            out["features"] = at_least_float32(h)
        return out
