"""What goes into a network beside its first input, and what comes out of a critic beside its score."""

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
    """Integer labels `[B]` as `[B, num_classes]`.

    Raises:
      ValueError: without `num_classes`, or for labels of another shape.
    """
    if num_classes is None:
        raise ValueError("The network was given integer labels: build it with num_classes=...")
    if y.ndim != 1:
        raise ValueError(f"Labels are integers [B], got shape {y.shape}.")
    return jax.nn.one_hot(y, num_classes)


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
    """`x` with its conditions beside it, on the last axis.

    To vectors `[B, D]` conditions are appended as vectors; to images `[B, H, W, C]` images of the same size are
    appended as they are and everything else as constant planes.

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
    """A critic's last layer: the score, and extra heads where they are asked for.

    Attributes:
      heads: name -> size of a linear head `[B, size]`.
      features: whether to hand out the last hidden layer as the head `features`.
      score_from: name of the head whose `logsumexp` is the score, instead of a unit of its own.
      minibatch: `none`, or the minibatch layer before the last.
      projection: number of classes of a projection term `<embedding(y), h>` in the score.
      weight: reparametrisation of the kernels.
      kernel_init: initialiser of the kernels.
      dtype: of the computation; everything handed out is float32.
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
            raise ValueError("A projection critic is called with labels: apply(params, stats, x, y).")
        embedding = self._linear(h.shape[-1], "projection", use_bias=False)(one_hot(y, self.projection))
        return jnp.sum(at_least_float32(embedding) * at_least_float32(h), axis=-1)


class BaseCritic(nn.Module):
    """What the critics share: conditions at one end, the score and its heads at the other.

    The score `[B]` is float32. With `heads` or `features` the output is a mapping with `score` and the heads.

    Attributes:
      norm: a name (`none`, `batch`, `layer`, `instance`, `group`, `spectral`, `weight`, `equalized`, or one of the
        first five and one of the last three joined by `+`), or what builds a norm's module.
      heads: name -> size of a further linear head `[B, size]`: class logits (AC-GAN, K + 1), codes (InfoGAN).
      features: whether to hand out the last hidden layer `[B, D]` as the head `features` (feature matching).
      score_from: name of the head whose `logsumexp` is the score: with K class logits, the critic of K + 1 classes
        whose logit for generated samples is fixed at 0 (Salimans et al. 2016).
      minibatch: `none`, `discrimination` or `stddev`: how the critic compares the examples of a batch.
      num_classes: of integer labels y, where the critic is conditional: `apply(params, model_state, x, y)`.
      conditioning: `concat` puts conditions beside the input (one-hot labels as constant channels of an image),
        `projection` adds `<embedding(y), features>` to the score (Miyato & Koyama 2018).
      kernel_init: initialiser of the kernels.
      dtype: of the computation (`jnp.bfloat16`); parameters, statistics and outputs stay float32.

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
        """Whether the condition enters the score alone."""
        if self.conditioning not in ("concat", "projection"):
            raise ValueError(f"Unknown conditioning {self.conditioning!r}: use 'concat' or 'projection'.")
        if self.conditioning == "projection" and self.num_classes is None:
            raise ValueError("conditioning='projection' needs num_classes=...")
        return self.conditioning == "projection"

    @nn.nowrap
    def inputs(self, x: Array, conditions: tuple[Array, ...]) -> Array:
        """`x` with the conditions that enter beside it."""
        return x if self.projects() else with_conditions(x, conditions, self.num_classes)

    @nn.nowrap
    def shared(self) -> dict[str, Any]:
        """What every layer with a kernel is built with."""
        return {
            "weight": weight_for(self.norm),
            "kernel_init": kernel_init_for(self.norm, self.kernel_init),
            "dtype": self.dtype,
        }

    @nn.nowrap
    def scores(self, h: Array, conditions: tuple[Array, ...]) -> Any:
        """The output, from the last hidden layer `[B, D]`."""
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
