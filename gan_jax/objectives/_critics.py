"""Critics whose score is computed from another network's outputs: autoencoders, classifiers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import flatten
from gan_jax.network import Network
from gan_jax.outputs import head
from gan_jax.types import Array, Key, Tree


def with_score(network: Network, score: Callable[[Mapping[str, Array], Array], Array]) -> Network:
    """The network as a critic: its heads, and the score `[B]` computed from them by `score(heads, x)`.

    Args:
      network: returns a mapping of heads, or one array, which becomes the head `out`.
      score: a function of the heads and the critic's first input.
    """

    def apply(
        params: Tree, model_state: Tree, x: Array, *conditions: Array, train: bool, key: Key | None = None
    ) -> tuple[dict[str, Any], Tree]:
        out, model_state = network.apply(params, model_state, x, *conditions, train=train, key=key)
        heads = dict(out) if isinstance(out, Mapping) else {"out": out}
        return {**heads, "score": score(heads, x)}, model_state

    return dataclasses.replace(network, apply=apply)


def autoencoder_critic(network: Network, power: int = 1, name: str = "out") -> Network:
    """An autoencoder as a critic: the score is minus the reconstruction error, mean |x - x_hat|^power.

    What is reconstructed badly looks fake (BEGAN, EBGAN: their energy, or L, is minus this score).

    Args:
      network: `x -> x_hat`, or a mapping with it under `name` and perhaps a `code`.
      power: 1 or 2.
      name: the head that holds x_hat.

    Raises:
      ValueError: if the power is neither 1 nor 2.
    """
    if power not in (1, 2):
        raise ValueError(f"The reconstruction error has power 1 or 2, got {power}.")

    def score(heads: Mapping[str, Array], x: Array) -> Array:
        error = jnp.abs(flatten(x - head(heads, name)))
        return -jnp.mean(error if power == 1 else jnp.square(error), axis=1)

    return with_score(network, score)


def class_critic(network: Network, name: str = "classes") -> Network:
    """A classifier of K real classes as a critic: the score is log sum_k exp(l_k), with the fake class's logit 0.

    D(x) = sum_k exp(l_k) / (1 + sum_k exp(l_k)) is the sigmoid of this score.

    Args:
      network: returns the logits l `[B, K]`, or a mapping that holds them under `name`.
      name: the head that holds them.

    References:
      Salimans et al., Improved Techniques for Training GANs, 2016, section 5 (arXiv:1606.03498).
    """

    def apply(
        params: Tree, model_state: Tree, *inputs: Array, train: bool, key: Key | None = None
    ) -> tuple[dict[str, Any], Tree]:
        out, model_state = network.apply(params, model_state, *inputs, train=train, key=key)
        return (dict(out) if isinstance(out, Mapping) else {name: out}), model_state

    named = dataclasses.replace(network, apply=apply)
    return with_score(named, lambda heads, x: jax.nn.logsumexp(head(heads, name), axis=-1))
