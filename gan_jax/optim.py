"""Optax transformations for GANs: weight clipping, and Adam adjusted to lazy regularisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan_jax.schedule import Schedule, is_count
from gan_jax.types import Array, Tree


def clip_params(bound: float) -> optax.GradientTransformation:
    """Keeps every parameter in [-bound, bound] after the update: WGAN's weight clipping.

    `optax.clip` bounds updates; this transformation bounds the updated parameters, so it must end a chain.
    Adding the update to the parameter rounds once: a parameter may exceed the bound by one unit in the last place.

    Args:
      bound: c > 0, in the parameters' units.

    Returns:
      An optax transformation without a state.

    Raises:
      ValueError: if the bound is not a positive number, or if `update` is called without `params`.

    Example:
      >>> optimizer = optax.chain(optax.sgd(1.0), clip_params(0.01))
      >>> params = jnp.array([0.0, 0.005])
      >>> updates, _ = optimizer.update(jnp.array([-1.0, 0.001]), optimizer.init(params), params)
      >>> print(optax.apply_updates(params, updates))
      [0.01  0.004]

    References:
      Arjovsky et al., Wasserstein GAN, 2017, Algorithm 1, line 7 (arXiv:1701.07875).
    """
    if not (_is_finite(bound) and bound > 0):
        raise ValueError(f"The clipping bound c must be positive and finite, got {bound!r}.")

    def update(updates: Tree, state: optax.EmptyState, params: Tree | None = None):
        if params is None:
            raise ValueError("clip_params bounds parameters: call update(updates, state, params).")
        clipped = jax.tree.map(lambda p, u: jnp.clip(p + u, -bound, bound) - p, params, updates)
        return clipped, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def lazy_adam(
    learning_rate: float | Callable[[Array], Array],
    b1: float = 0.0,
    b2: float = 0.99,
    *,
    every: int,
    eps: float = 1e-8,
    eps_root: float = 0.0,
) -> optax.GradientTransformation:
    """Adam for a player whose regularisation is a separate step once every `every` rounds.

    With c = every / (every + 1) the learning rate is multiplied by c and the betas are raised to the power c, so
    that the extra steps do not change the effective speed of the optimiser.

    Args:
      learning_rate: the rate of an optimiser without such steps.
      b1, b2: the betas of an optimiser without such steps; the defaults are StyleGAN2's.
      every: the interval of the regularisation in rounds, see `schedule.regularization_turn`.
      eps, eps_root: added to the root of the second moment, and to the moment under it.

    Raises:
      ValueError: if `every` is no whole number of 1 or more, the rate is negative or not finite, or a beta is
        outside [0, 1).

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, appendix B (arXiv:1912.04958).
    """
    if not is_count(every):
        raise ValueError(f"lazy_adam(every={every!r}): every is a whole number of rounds, 1 or more.")
    _check_rate("lazy_adam", learning_rate)
    for name, beta in (("b1", b1), ("b2", b2)):
        if not (_is_finite(beta) and 0 <= beta < 1):
            raise ValueError(f"lazy_adam({name}={beta!r}): {name} is a number in [0, 1).")
    c = every / (every + 1)
    rate = (lambda count: c * learning_rate(count)) if callable(learning_rate) else c * learning_rate
    return optax.adam(rate, b1=b1**c, b2=b2**c, eps=eps, eps_root=eps_root)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)


def _check_rate(function: str, learning_rate: object) -> None:
    """Raises a ValueError for a learning rate that is a number and negative or not finite."""
    if not callable(learning_rate) and not (_is_finite(learning_rate) and learning_rate >= 0):  # type: ignore[operator]
        raise ValueError(
            f"{function}(learning_rate={learning_rate!r}): learning_rate is a finite number, 0 or more."
        )


DECAYS = ("constant", "linear", "cosine")


def learning_rate_schedule(
    learning_rate: float, *, decay: str = "constant", rounds: int = 0, warmup: int = 0
) -> Callable[[Array], Array]:
    """A learning rate by round: it rises on a line over `warmup` rounds, then stays or falls to 0 at `rounds`.

    The length of the decay is a number of its own and not that of the run, so that a run that is made longer goes
    on as it began.

    Args:
      learning_rate: the largest.
      decay: `constant`; `linear`, to 0 at `rounds` and 0 from there on; `cosine`, half a cosine to 0.
      rounds: the round at which a decay ends, more than `warmup`.
      warmup: rounds of the rise; round t of them has the share (t + 1) / (warmup + 1).

    Raises:
      ValueError: for an unknown decay, a rate that is negative or not finite, or rounds that are no whole numbers
        or leave nothing to decay over.

    >>> rate = learning_rate_schedule(1.0, decay="linear", rounds=6, warmup=1)
    >>> [round(float(rate(jnp.array(t))), 3) for t in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 0.8, 0.0, 0.0]
    >>> rate = learning_rate_schedule(1.0, decay="cosine", rounds=4)
    >>> [round(float(rate(jnp.array(t))), 3) for t in (0, 1, 2, 4)]  # (1 + cos(pi t / 4)) / 2
    [1.0, 0.854, 0.5, 0.0]
    """
    if decay not in DECAYS:
        raise ValueError(f"A learning rate's decay is {', '.join(DECAYS)}, got {decay!r}.")
    if callable(learning_rate):
        raise ValueError("learning_rate_schedule takes the largest learning rate, a number, got a function.")
    _check_rate("learning_rate_schedule", learning_rate)
    for name, value in (("rounds", rounds), ("warmup", warmup)):
        if not is_count(value, least=-(2**31)):
            raise ValueError(f"learning_rate_schedule({name}={value!r}): {name} is a whole number.")
    if warmup < 0 or (decay != "constant" and rounds <= warmup):
        raise ValueError(
            f"A {decay} decay ends after the warm-up: give the round at which it does, more than {max(warmup, 0)}; "
            f"got rounds={rounds}, warmup={warmup}."
        )

    def rate(step: Array) -> Array:
        t = jnp.asarray(step, jnp.float32)
        rise = jnp.minimum(1.0, (t + 1) / (warmup + 1))
        if decay == "constant":
            return learning_rate * rise
        share = jnp.clip((t - warmup) / (rounds - warmup), 0.0, 1.0)
        fall = 1 - share if decay == "linear" else (1 + jnp.cos(jnp.pi * share)) / 2
        return learning_rate * rise * fall

    return rate


def ema_half_life(
    images: float | Callable[[Array], Array], batch_size: int, *, ramp: float | None = 0.05
) -> Callable[[Array], Array]:
    """The decay of a moving average whose weights halve every so many images, for `Player.ema`.

    In round t, after t `batch_size` images, the half-life is min(`images`, `ramp` t `batch_size`), so that a young
    average is not held by the initial weights; the decay is 0.5 ** (batch_size / half-life).

    Args:
      images: the half-life, more than 0; or `round -> half-life`, 0 where the average is to be the parameters.
      batch_size: images a round.
      ramp: the half-life's share of the images seen so far; `None` has no ramp.

    Raises:
      ValueError: if `images`, `batch_size` or `ramp` is not positive, or not finite.

    References:
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020 (arXiv:2006.06676), of whose
      authors' training settings the ramp is one.

    >>> decay = ema_half_life(1000.0, 100, ramp=0.05)
    >>> [round(float(decay(jnp.array(t))), 4) for t in (0, 100, 1000)]  # 0, half-lives of 500 and 1,000 images
    [0.0, 0.8706, 0.933]
    """
    if not is_count(batch_size) or not (callable(images) or (_is_finite(images) and images > 0)):
        raise ValueError(
            f"A half-life is of more than 0 images, got {images!r} at a batch size of {batch_size!r}."
        )
    if ramp is not None and not (_is_finite(ramp) and ramp > 0):
        raise ValueError(
            f"ema_half_life(ramp={ramp!r}): ramp is a finite number above 0, or None for no ramp."
        )

    def decay(step: Array) -> Array:
        half_life = jnp.asarray(images(step) if callable(images) else images, jnp.float32)
        if ramp is not None:
            half_life = jnp.minimum(half_life, ramp * batch_size * jnp.asarray(step, jnp.float32))
        return 0.5 ** (batch_size / jnp.maximum(half_life, 1e-8))

    return decay


def round_of_update(
    player: str,
    schedule: Schedule,
    phases: Sequence[tuple[Callable[[int], bool], Schedule]] = (),
    rounds: int = 1,
) -> Callable[[Array], Array]:
    """In which round a player's update of a number is: optimisers count updates, learning rates go by rounds.

    Args:
      player: its name.
      schedule: of the game.
      phases: of the game.
      rounds: up to which the round is exact; after it, rounds are taken to have as many updates as the last.

    Returns:
      A function of the updates so far.

    >>> from gan_jax.schedule import alternating
    >>> of = round_of_update("critic", alternating(2), [(lambda step: step == 0, alternating(5))], rounds=3)
    >>> [int(of(jnp.array(count))) for count in range(10)]
    [0, 0, 0, 0, 0, 1, 1, 2, 2, 3]
    """
    if not phases and all(turn.every == 1 for turn in schedule):
        rounds = 1  # all are alike
    played = [
        next((phase for holds, phase in phases if holds(step)), schedule) for step in range(max(rounds, 1))
    ]
    updates = np.array(
        [
            sum(player in turn.players and step % turn.every == 0 for turn in turns)
            for step, turns in enumerate(played)
        ]
    )
    before = np.cumsum(updates) - updates
    # Runs of rounds with equally many updates, but for those with none.
    first = np.flatnonzero(np.diff(updates, prepend=-1))
    first = first[updates[first] > 0]
    if len(first) == 0:
        return lambda count: count
    start, begun, each = first, before[first], updates[first]

    def round_of(count: Array) -> Array:
        place = jnp.searchsorted(jnp.asarray(begun), count, side="right") - 1
        in_run = (count - jnp.asarray(begun)[place]) // jnp.asarray(each)[place]
        return jnp.asarray(start)[place] + in_run

    return round_of
