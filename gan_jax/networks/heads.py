"""Conditions of networks, and the score and heads of critics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_jax.functional.batch import flatten
from gan_jax.networks.initializers import Initializer, initializer
from gan_jax.networks.layers import (
    Dense,
    Norm,
    at_least_float32,
    kernel_init_for,
    minibatch_layer,
    weight_for,
)
from gan_jax.types import Array


def one_hot(y: Array, num_classes: int | None) -> Array:
    """Encodes integer labels `[B]` as one-hot vectors `[B, num_classes]`.

    A label outside of 0 to `num_classes` - 1 is NaN, which ends the run: as zeros it would be no class at all.

    Raises:
      ValueError: without `num_classes`, or for labels of another shape.
    """
    if num_classes is None:
        raise ValueError("The network got integer labels: construct it with num_classes=...")
    if y.ndim != 1:
        raise ValueError(f"Labels must be integers [B], got shape {y.shape}.")
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"Labels must be integers [B], got {y.dtype}.")
    known = (y >= 0) & (y < num_classes)
    return jnp.where(known[:, None], jax.nn.one_hot(y, num_classes), jnp.nan)


def condition_vector(conditions: tuple[Array, ...], num_classes: int | None) -> Array | None:
    """Concatenates conditions to `[B, D]`: integer labels as one-hot, others flattened; `None` without any.

    Raises:
      ValueError: for labels without `num_classes`, and for a network with `num_classes` but without a label of
        integers.

    >>> condition_vector((jnp.array([2, 0]), jnp.ones((2, 1))), 3)
    Array([[0., 0., 1., 1.],
           [1., 0., 0., 1.]], dtype=float32)
    """
    if not conditions:
        if num_classes is not None:
            raise ValueError(f"The network has num_classes={num_classes} but was called without a label y.")
        return None
    if num_classes is not None and not any(jnp.issubdtype(c.dtype, jnp.integer) for c in conditions):
        raise ValueError(
            f"The network has num_classes={num_classes}, but its label is {conditions[0].dtype}: give integers [B]."
        )
    return jnp.concatenate(
        [
            one_hot(condition, num_classes)
            if jnp.issubdtype(condition.dtype, jnp.integer)
            else flatten(condition)
            for condition in conditions
        ],
        axis=-1,
    )


def with_conditions(x: Array, conditions: tuple[Array, ...], num_classes: int | None) -> Array:
    """Appends conditions to `x` on the last axis.

    They are appended to vectors `[B, D]` as vectors, and to images `[B, H, W, C]` as constant planes, except for
    images of the same size, which are appended unchanged.

    >>> with_conditions(jnp.zeros((2, 4, 4, 1)), (jnp.array([2, 0]),), 3).shape
    (2, 4, 4, 4)
    """
    images = tuple(c for c in conditions if x.ndim == 4 and c.ndim == 4 and c.shape[1:3] == x.shape[1:3])
    others = tuple(c for c in conditions if not any(c is image for image in images))
    parts = [x, *images]
    vector = condition_vector(others, num_classes)
    if vector is not None:
        if x.ndim == 4:
            vector = jnp.broadcast_to(vector[:, None, None, :], (*x.shape[:3], vector.shape[-1]))
        parts.append(vector)
    return jnp.concatenate([part.astype(x.dtype) for part in parts], axis=-1)


class ScoreHead(nn.Module):
    """A critic's last layer: the score, and optional extra heads.

    Attributes:
      heads: name -> size of a linear head `[B, size]`.
      features: whether to return the last hidden layer as the head `features`.
      score_from: name of the head whose `logsumexp` is the score, instead of a separate unit.
      minibatch: `none`, or the name of the minibatch layer before the last layer.
      projection: number of classes of a projection term `<embedding(y), h>` in the score.
      weight: reparametrisation of the kernels.
      kernel_init: initialiser of the kernels.
      dtype: the dtype of the computation; all outputs are float32.
    """

    heads: Mapping[str, int] | None = None
    features: bool = False
    score_from: str | None = None
    minibatch: str = "none"
    projection: int | None = None
    weight: Callable[[], nn.Module] | None = None
    kernel_init: Initializer = initializer("lecun")
    dtype: Any = None

    @nn.compact
    def __call__(self, h: Array, y: Array | None = None) -> Any:
        """`h [B, D]` to the score `[B]`, or to a mapping with `score` and the heads."""
        extra = {"features": at_least_float32(h)} if self.features else {}
        if (layer := minibatch_layer(self.minibatch)) is not None:
            h = layer()(h)
        for name, size in (self.heads or {}).items():
            extra[name] = at_least_float32(self._linear(size, name)(h))
        score = self._score(h, extra)
        if self.projection is not None:
            score = score + self._projection(h, y)
        return {"score": score, **extra} if extra else score

    @nn.nowrap
    def _linear(self, size: int, name: str, use_bias: bool = True) -> Dense:
        return Dense(
            size,
            use_bias=use_bias,
            weight=self.weight,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name=name,
        )

    @nn.nowrap
    def _score(self, h: Array, heads: Mapping[str, Array]) -> Array:
        if self.score_from is None:
            return at_least_float32(self._linear(1, "score")(h)[:, 0])
        if self.score_from not in heads:
            raise ValueError(f"score_from={self.score_from!r} names no head; the heads are {sorted(heads)}.")
        return jax.nn.logsumexp(heads[self.score_from], axis=-1)

    @nn.nowrap
    def _projection(self, h: Array, y: Array | None) -> Array:
        if y is None:
            raise ValueError("A projection critic needs labels: apply(params, model_state, x, y).")
        embedding = self._linear(h.shape[-1], "projection", use_bias=False)(one_hot(y, self.projection))
        return jnp.sum(at_least_float32(embedding) * at_least_float32(h), axis=-1)


class BaseCritic(nn.Module):
    """The base of the critics: their conditions, the score and its heads.

    The score `[B]` is float32. With `heads` or `features` the output is a mapping with `score` and the heads.

    Attributes:
      norm: a name (`none`, `batch` or with groups `batch:8`, `layer`, `instance`, `group`, `spectral`, `weight`,
        `equalized`, or one of the first five and one of the last three joined by `+`), or a function that makes a
        norm's module.
      heads: name -> size of an extra linear head `[B, size]`: class logits (AC-GAN, K + 1), codes (InfoGAN).
      features: whether to return the last hidden layer `[B, D]` as the head `features` (feature matching).
      score_from: name of the head whose `logsumexp` is the score: with K class logits, the critic of K + 1 classes
        whose logit for generated samples is fixed at 0 (Salimans et al. 2016).
      minibatch: `none`, `discrimination` or `stddev`: how the critic compares the examples of a batch.
      num_classes: the number of classes of labels y, if it is conditional: `apply(params, model_state, x, y)`.
      conditioning: `concat` appends conditions to the input (one-hot labels as constant channels of an image),
        `projection` adds `<embedding(y), features>` to the score (Miyato & Koyama 2018).
      kernel_init: initialiser of the kernels.
      dtype: the dtype of the computation (`jnp.bfloat16`); parameters, statistics and outputs stay float32.

    Raises:
      ValueError: for an unknown conditioning, and for a projection without classes.
    """

    norm: Norm = "none"
    heads: Mapping[str, int] | None = None
    features: bool = False
    score_from: str | None = None
    minibatch: str = "none"
    num_classes: int | None = None
    conditioning: str = "concat"
    kernel_init: Initializer = initializer("lecun")
    dtype: Any = None

    @nn.nowrap
    def projects(self) -> bool:
        """Tells whether the condition enters only the score."""
        if self.conditioning not in ("concat", "projection"):
            raise ValueError(f"Unknown conditioning {self.conditioning!r}: use 'concat' or 'projection'.")
        if self.conditioning == "projection" and self.num_classes is None:
            raise ValueError("conditioning='projection' needs num_classes=...")
        return self.conditioning == "projection"

    @nn.nowrap
    def inputs(self, x: Array, conditions: tuple[Array, ...]) -> Array:
        """Appends to `x` the conditions that are inputs of the first layer."""
        return x if self.projects() else with_conditions(x, conditions, self.num_classes)

    @nn.nowrap
    def shared(self) -> dict[str, Any]:
        """The common arguments of the layers with kernels."""
        return {
            "weight": weight_for(self.norm),
            "kernel_init": kernel_init_for(self.norm, self.kernel_init),
            "dtype": self.dtype,
        }

    @nn.nowrap
    def scores(self, h: Array, conditions: tuple[Array, ...]) -> Any:
        """The critic's output for the last hidden layer `[B, D]`."""
        projects = self.projects()
        return ScoreHead(
            heads=self.heads,
            features=self.features,
            score_from=self.score_from,
            minibatch=self.minibatch,
            projection=self.num_classes if projects else None,
            name="scores",
            **self.shared(),
        )(h, *conditions[:1] if projects else ())
