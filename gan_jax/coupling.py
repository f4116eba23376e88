"""Whether a network couples the examples of its batch, found from its traced program once."""

from __future__ import annotations

import weakref
from typing import Any

from gan_jax import dependence
from gan_jax.network import Network

_FOUND: weakref.WeakKeyDictionary[Network, bool] = weakref.WeakKeyDictionary()


def couples_batch(network: Network, inputs: tuple[Any, ...] | None = None) -> bool | None:
    """Whether one example's output depends on the others of its batch when the network is trained.

    Batch normalisation and minibatch layers couple, also where their weights are still zero.

    Args:
      network: any.
      inputs: arrays or shapes of its inputs, where the network has no specification of them.

    Returns:
      `None` where neither is given.
    """
    specification = network.inputs if inputs is None else inputs
    if specification is None:
        return None
    if network not in _FOUND:
        _FOUND[network] = dependence.couples_batch(network.init, network.apply, specification)
    return _FOUND[network]
