"""A trained generator with its critic: samples, walks between them, and scores, as arrays."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from gan_jax.data.arrays import decode
from gan_jax.data.value_range import ROUNDING
from gan_jax.evaluation.sampling import BLOCK, CHUNK, padded_rows
from gan_jax.functional.options import check_count, check_number, check_unmasked
from gan_jax.keys import named_key
from gan_jax.models.portable import fixed_batch
from gan_jax.models.programs import WHOLE_BATCH, Program, Programs, group_of
from gan_jax.models.walks import WALKS
from gan_jax.types import Key, Tree

Labels = int | str | Sequence[int] | Sequence[str] | np.ndarray
MOST_REDRAWS = 1000
"""Draws of a component of z whose size is above the truncation before that is an error."""
_SURE = 10
"""Draws within the truncation that are added to those found, so that few draws decide nothing."""
_MOST_WHITE = 4.0
"""No generator's whitest pixel is above."""
MEAN_OF = 10_000
"""Latents whose w are averaged for truncation."""
MOST_COMPARED = 64
"""Examples of a block of groups: as in exported programs, so that networks make the same groups."""

_MOST_SEED = 2**32 - 1
"""JAX's keys are of 32 bits of a seed."""


class Model:
    """A trained generator, and the critic of its game where that is known.

    Made by `load_model`. Every method is a function of its arguments: the same call gives the same bits.

    Args:
      programs: what the game's networks compute.
      weights: the weights of the generator and of the critic, by player and name.
      player: the generator.
      round: the round of the weights.
      kind: `ema` or `raw`.
      config: the configuration of the run, as `config.json` has it.
      seed: the seed of the run.
      checkpoint: the digest of the checkpoint of the weights, empty where it is not known.
      devices: where samples are computed, a block of them on each in turn.

    Attributes:
      player, round, kind, config, seed, checkpoint, programs: as given.
      classes: the names of the classes that labels number; empty if the generator takes no label.
    """

    def __init__(
        self,
        programs: Programs,
        weights: Mapping[str, Mapping[str, np.ndarray]],
        *,
        player: str,
        round: int,
        kind: str,
        config: Mapping[str, Any],
        seed: int,
        checkpoint: str = "",
        devices: Sequence[jax.Device] | None = None,
    ):
        self.programs, self.weights = programs, weights
        self.player, self.round, self.kind = player, round, kind
        self.config, self.seed, self.checkpoint = config, seed, checkpoint
        self.classes = programs.classes if any(map(_is_label, self._conditions)) else ()
        self._devices = list(jax.local_devices()[:1] if devices is None else devices)
        self._jitted = functools.cache(jax.jit)
        self._on_device = functools.cache(
            lambda name, device: jax.device_put(dict(self.weights[name]), device)
        )

    def __repr__(self) -> str:
        return (
            f"Model({self.player}, round {self.round}, {self.kind} weights, samples of {self.sample_shape})"
        )

    @property
    def generator(self) -> Program:
        """The generator's program."""
        return self.programs.generators[self.player]

    @property
    def critic(self) -> Program | None:
        """The program of the critic of the generator's samples."""
        name = self.programs.critic_of.get(self.player)
        return self.programs.critics.get(name) if name else None

    def only_its_player(self) -> Programs:
        """The programs of the generator and its critic, without those of others of the game."""
        programs, name = self.programs, self.player
        critic = programs.critic_of.get(name)
        mine = lambda parts, key: {key: parts[key]} if key in parts else {}  # noqa: E731
        return dataclasses.replace(
            programs,
            generators=mine(programs.generators, name),
            critics=mine(programs.critics, critic),
            mappings=mine(programs.mappings, name),
            syntheses=mine(programs.syntheses, name),
            critic_of=mine(programs.critic_of, name),
        )

    @functools.cached_property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample, `(H, W, C)` of an image."""
        rows = fixed_batch(self.generator) or 1
        inputs = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype), self.generator.inputs
        )
        key = jax.ShapeDtypeStruct((2,), np.uint32)
        return jax.eval_shape(self.generator.call, dict(self.generator.weights), key, *inputs).shape[1:]

    # Latents

    @property
    def _conditions(self) -> tuple[Any, ...]:
        return self.generator.inputs[self.programs.latent is not None :]

    def latents(self, n: int, *, seed: int = 0, truncation: float | None = None) -> Tree:
        """`n` latents z of the prior.

        Args:
          n: how many, at least 1.
          seed: determines them, 0 to 4294967295; the first of more latents are the same.
          truncation: components of z above it in size are drawn again (the truncation trick). Components with two
            values only, as the categories of a code, are left.

        Returns:
          `[n, d]`, or a tree of such arrays.

        Raises:
          ValueError: if the generator has no latent, or the prior has no values within `truncation`.

        References:
          Brock et al., Large scale GAN training for high fidelity natural image synthesis, 2019
          (arXiv:1809.11096), section 3.1.
        """
        check_count("latents", "n", n)
        if self.programs.latent is None:
            raise ValueError(
                f"{self.player} makes samples of a condition only: it has no latent. Call sample(conditions=[...])."
            )
        key = _picture_key(seed)
        chunks = []
        for start in range(0, n, CHUNK):
            drawn = self._chunk(named_key(jax.random.fold_in(key, start), "latent"), truncation)
            chunks.append(jax.tree.map(lambda z, rows=n - start: z[:rows], drawn))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)

    def _chunk(self, key: Key, truncation: float | None) -> Tree:
        assert self.programs.latent is not None
        prior = self._jitted(self.programs.latent)
        draw = lambda key: jax.tree.map(np.array, prior(jax.random.key_data(key)))  # noqa: E731
        z = draw(key)
        if truncation is None:
            return z
        if not truncation > 0:
            raise ValueError(f"A truncation is more than 0, got {truncation}.")
        outside = jax.tree.map(lambda leaf: (np.abs(leaf) > truncation) & ~_discrete(leaf), z)
        again = named_key(key, "truncation")
        least = np.log(sum(leaf.size for leaf in jax.tree.leaves(outside))) / MOST_REDRAWS
        drawn = inside = 0
        for number in range(MOST_REDRAWS):
            left = sum(int(leaf.sum()) for leaf in jax.tree.leaves(outside))
            if not left:
                return z
            redrawn = draw(jax.random.fold_in(again, number))
            z = jax.tree.map(np.where, outside, redrawn, z)
            outside = jax.tree.map(lambda mask, leaf: mask & (np.abs(leaf) > truncation), outside, z)
            drawn += left
            inside += left - sum(int(leaf.sum()) for leaf in jax.tree.leaves(outside))
            if inside + 5 * np.sqrt(inside) + _SURE < least * drawn:  # so few that some would always be left
                break
        raise ValueError(
            f"The prior has hardly a value within a truncation of {truncation}: a larger one is needed."
        )

    @functools.cached_property
    def mean_w(self) -> np.ndarray:
        """The mean of the intermediate latent w over `MEAN_OF` draws, for generators with a mapping network.

        Raises:
          ValueError: if the generator has none.
        """
        if self.player not in self.programs.mappings:
            raise ValueError(f"{self.player} has no mapping network, so there is no w to average.")
        z = self.latents(MEAN_OF)
        w = self.mapped(z, self.condition_rows(MEAN_OF, None))
        return np.mean(w, axis=0, dtype=np.float64).astype(w.dtype)

    def mapped(self, z: Tree, conditions: tuple[Any, ...]) -> np.ndarray:
        """The intermediate latents w `[n, ...]` of latents and conditions, by the mapping network.

        Raises:
          ValueError: if the generator has none.
        """
        if self.player not in self.programs.mappings:
            raise ValueError(f"{self.player} has no mapping network, so no latent is mapped to a w.")
        return self._compute(self.programs.mappings[self.player], self.player, (z, *conditions), seed=0)

    # Samples

    def sample(
        self,
        n: int | None = None,
        *,
        seed: int = 0,
        labels: Labels | None = None,
        conditions: Sequence[Any] | None = None,
        truncation: float | None = None,
        z: Tree = None,
    ) -> np.ndarray:
        """Samples, the same for the same arguments.

        Args:
          n: how many; by default as many as there are of `z`, `labels` or `conditions`.
          seed: determines the latents and the noise of layers that draw any, 0 to 4294967295. With a run's own seed
            the samples are those of its pictures.
          labels: a class by its number or its name, or one for each sample; in turn 0, 1, ... by default. Where the
            names are numbers in another order (folders 0, 1, 10, 2), numbers are given as an array.
          conditions: the generator's inputs beside latent and label: images to translate, `[n, H, W, C]`, uint8, or
            floats in [-1, 1].
          truncation: for a generator with a mapping network psi, w to mean w + psi (w - mean w); for others the
            largest size of a component of z, see `latents`. `None` does not truncate.
          z: the latents, in place of those of `seed`.

        Returns:
          `[n, ...]` float32, images in [-1, 1], or beyond it where the network ends without a tanh (R3GAN's,
          StyleGAN2's).

        Raises:
          ValueError: for arguments that the generator does not take, of another size, not finite, or not allowed
            together; or images to translate of integers other than uint8.

        Warns:
          UserWarning: for images to translate whose numbers are in [0, 1] or in [0, 255], which are taken as they
            are.
        """
        if n is None:
            n = _rows(z, labels, conditions)
        check_count("sample", "n", n)
        check_number("sample", "truncation", 1.0 if truncation is None else truncation)
        given = self.condition_rows(n, labels, conditions)
        if self.programs.latent is None:
            for name, value in (("z", z), ("truncation", truncation)):
                if value is not None:
                    raise ValueError(
                        f"{self.player} makes samples of a condition only: it has no latent, so it takes no {name}."
                    )
            return self._compute(self.generator, self.player, given, seed)
        mapped = self.player in self.programs.mappings
        if z is None:
            z = self.latents(n, seed=seed, truncation=None if mapped else truncation)
        else:
            self._check_drawn_here(truncation)
        z = self._checked_latents(z, n)
        if not mapped or truncation is None:
            return self._compute(self.generator, self.player, (z, *given), seed)
        w = self.mapped(z, given)
        return self.synthesize(self.mean_w + np.float32(truncation) * (w - self.mean_w), seed=seed)

    @functools.cached_property
    def draws_noise(self) -> bool:
        """Whether two samples of one latent and class differ, by noise that layers draw for each."""
        twice = jax.tree.map(lambda leaf: np.repeat(leaf, 2, axis=0), self.latents(1))
        first, second = self.sample(z=twice, labels=np.zeros(2, np.int32) if self.classes else None)
        return not np.array_equal(first, second)

    def synthesize(self, w: np.ndarray, *, seed: int = 0) -> np.ndarray:
        """The samples of intermediate latents w `[n, ...]`, for generators with a mapping network.

        Raises:
          ValueError: if the generator has none.
        """
        if self.player not in self.programs.syntheses:
            raise ValueError(
                f"{self.player} has no mapping network: samples are made of z, by sample(z=...)."
            )
        return self._compute(self.programs.syntheses[self.player], self.player, (w,), seed)

    def interpolate(
        self,
        z: Tree = None,
        *,
        seeds: Sequence[int] = (0, 1),
        steps: int = 8,
        walk: str = "spherical",
        label: int | str | None = None,
        truncation: float | None = None,
    ) -> np.ndarray:
        """Samples along walks from each latent to the next.

        Args:
          z: the latents between which to walk, `[k + 1, d]`; by default the first latent of each of `seeds`.
          seeds: two or more.
          steps: the samples of a walk, both ends included.
          walk: `spherical` or `linear`.
          label: the class of all samples, by number or name; the first one by default.
          truncation: as in `sample`.

        Returns:
          `[k, steps, ...]`: the last sample of a walk is of the same latent as the first of the next. The noise of
          layers that draw any is the same in all, that of the first seed, 0 where `z` is given.

        Raises:
          ValueError: for an unknown walk, fewer than two latents or two steps, or `z` and `truncation` together for
            a generator without a mapping network.
        """
        if walk not in WALKS:
            raise ValueError(f"A walk is {' or '.join(WALKS)}, got {walk!r}.")
        check_count("interpolate", "steps", steps)
        mapped = self.player in self.programs.mappings
        noise = int(seeds[0]) if z is None and len(seeds) else 0
        if z is None:
            ends = [self.latents(1, seed=seed, truncation=None if mapped else truncation) for seed in seeds]
            z = jax.tree.map(lambda *rows: np.concatenate(rows), *ends)
        else:
            self._check_drawn_here(truncation)
        anchors = len(jax.tree.leaves(z)[0])
        if anchors < 2 or steps < 2:
            raise ValueError(
                f"A walk has two ends and two steps or more, got {anchors} latents, steps={steps}."
            )

        def between(leaf: np.ndarray) -> np.ndarray:
            return np.concatenate([WALKS[walk](a, b, steps) for a, b in itertools.pairwise(leaf)])

        labels = (np.array(0) if label is None else label) if self.classes else label
        along, psi = jax.tree.map(between, z), truncation if mapped else None
        if self.draws_noise:
            rows = [
                jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], along) for i in range((anchors - 1) * steps)
            ]
            frames = np.concatenate(
                [self.sample(z=row, seed=noise, labels=labels, truncation=psi) for row in rows]
            )
        else:
            frames = self.sample(z=along, labels=labels, truncation=psi)
        return frames.reshape(anchors - 1, steps, *frames.shape[1:])

    # Scores

    def scores(self, images: Any, *, labels: Labels | None = None) -> np.ndarray:
        """The critic's score of each example; of a critic with a score for each patch, their mean.

        A critic with minibatch statistics (`minibatch=`, by default StyleGAN2's) compares an example with its
        neighbours, so that scores depend on which examples stand together: the first group's on those of the first
        group only, or, of a critic that compares its whole batch, on all that are given.

        Args:
          images: `[N, ...]` as the critic takes them: images uint8, or floats in [-1, 1].
          labels: for a critic that takes a label, as in `sample`; one for all or one each.

        Returns:
          `[N]` float32, higher for what the critic takes for real where its objective says so.

        Raises:
          ValueError: if the game has no critic of these samples, the examples are of another shape, of integers
            other than uint8, or not finite; or the critic compares groups and their number is no multiple of one.
        """
        score = self.critic_outputs(images, labels=labels)["score"]
        return score.reshape(len(score), -1).mean(axis=1)

    def critic_outputs(self, images: Any, *, labels: Labels | None = None) -> dict[str, np.ndarray]:
        """The critic's score `[N]` (or `[N, ...patches]`) and its other heads, `features` `[N, D]` if it has them.

        Raises:
          ValueError: as `scores`.
        """
        if self.critic is None:
            raise ValueError(f"There is no critic of {self.player}'s samples whose inputs are known.")
        images = as_floats(images)
        expected = self.critic.inputs[0].shape[1:]
        if images.shape[1:] != expected or len(images) < 1:
            raise ValueError(f"The critic takes examples [N, {_shown(expected)}], got {images.shape}.")
        rest = self.critic.inputs[1:]
        taken: tuple[Any, ...] = ()
        if rest:
            if len(rest) > 1 or not _is_label(rest[0]):
                raise ValueError(
                    "The critic takes more than examples and a label: its scores need the run's data."
                )
            if labels is None:
                raise ValueError("The critic takes a label: give labels=, one class or one for each example.")
            taken = (self.class_rows(labels, len(images)),)
        name = self.programs.critic_of[self.player]
        size = self._critic_block(len(images))
        return self._compute(self.critic, name, (images, *taken), seed=0, size=size)

    @functools.cached_property
    def critic_group(self) -> int:
        """How many neighbours the critic compares: 1, a number of examples, or `WHOLE_BATCH`; see `group_of`."""
        assert self.critic is not None
        return group_of(self.critic)

    def _critic_block(self, n: int) -> int | None:
        """The size of blocks in which n examples are scored, of whole groups; `None` where any will do.

        Raises:
          ValueError: if a group would be incomplete.
        """
        assert self.critic is not None
        group, fixed = self.critic_group, fixed_batch(self.critic)
        if group == 1:
            return None
        if group == WHOLE_BATCH:
            if fixed is not None and n != fixed:
                raise ValueError(
                    f"The critic compares the examples of its batch, and its program is for {fixed} of them, got "
                    f"{n}: give {fixed}, or load the run with config=, its experiment."
                )
            return n
        if n % group:
            fitting = [str(number) for number in (n // group * group, -(-n // group) * group) if number]
            raise ValueError(
                f"The critic compares groups of {group} neighbours, and the last group of N = {n} would have "
                f"{n % group}: give a multiple of {group}, such as {' or '.join(fitting)}."
            )
        return fixed or min(n, MOST_COMPARED // group * group)

    # Inputs

    def _check_drawn_here(self, truncation: float | None) -> None:
        """Checks that latents which are given need no truncation where that is how latents are drawn."""
        if truncation is not None and self.player not in self.programs.mappings:
            raise ValueError("truncation is how latents are drawn: give z or truncation, not both.")

    def _checked_latents(self, z: Tree, n: int) -> Tree:
        wanted = self.generator.inputs[0]
        if str(jax.tree.structure(z)) != str(jax.tree.structure(wanted)):
            raise ValueError(f"z is of another structure than the latent, {jax.tree.structure(wanted)}.")

        def checked(leaf: Any, shape: Any) -> np.ndarray:
            leaf = np.asarray(leaf, shape.dtype)
            if leaf.shape != (n, *shape.shape[1:]):
                raise ValueError(f"z is [{n}, {_shown(shape.shape[1:])}], got {leaf.shape}.")
            check_all_finite("z", leaf)
            return leaf

        return jax.tree.map(checked, z, wanted)

    def condition_rows(
        self, n: int, labels: Labels | None, conditions: Sequence[Any] | None = None
    ) -> tuple[np.ndarray, ...]:
        """The generator's inputs beside its latent, `[n, ...]` each."""
        if labels is not None and not any(map(_is_label, self._conditions)):
            raise ValueError(
                f"{self.player} takes no label, for its game is not conditional: leave labels out."
            )
        others = list(() if conditions is None else conditions)
        rows = []
        for shape in self._conditions:
            if _is_label(shape):
                turn = np.arange(n) % max(1, len(self.classes))
                rows.append(self.class_rows(turn if labels is None else labels, n))
                continue
            if not others:
                raise ValueError(
                    f"{self.player} makes samples of [n, {_shown(shape.shape[1:])}]: give them, conditions=[...]."
                )
            array = _condition(others.pop(0), shape.dtype)
            if array.shape != (n, *shape.shape[1:]):
                raise ValueError(f"A condition is [{n}, {_shown(shape.shape[1:])}], got {array.shape}.")
            rows.append(array)
        if others:
            raise ValueError(f"{self.player} takes fewer conditions than were given.")
        return tuple(rows)

    def class_rows(self, labels: Labels, n: int) -> np.ndarray:
        """Labels `[n]` as numbers, of one for all or one each, by number or by name."""
        single = isinstance(labels, int | str) or np.ndim(labels) == 0
        each: Any = [labels] if single else labels
        numbers = np.array([self.class_number(label) for label in each], np.int32)
        if single:
            numbers = np.repeat(numbers, n)
        if numbers.shape != (n,):
            raise ValueError(f"labels is one class or one for each of {n}, got {len(numbers)}.")
        return numbers

    def class_number(self, label: Any) -> int:
        """The number of a class by its name or its number.

        Where names are numbers themselves, in another order (folders 0, 1, 10, 2, or 1, 2, other), only a number of
        an array is taken for the place of a class that is not called so.

        Raises:
          ValueError: if there is no such class, several have this name, or a number would be another class's name.
        """
        if isinstance(label, str) and label in self.classes:
            named = [number for number, name in enumerate(self.classes) if name == label]
            if len(named) > 1:
                raise ValueError(
                    f"The classes {', '.join(map(str, named))} are called {label!r}: give the number."
                )
            return named[0]
        try:
            number = int(label)
            if number != float(label):
                raise ValueError
        except (TypeError, ValueError):
            number = -1
        if not 0 <= number < len(self.classes):
            raise ValueError(f"There is no class {label!r}: the classes are {', '.join(self.classes)}.")
        called, of_array = self.classes[number], hasattr(label, "dtype") and not isinstance(label, str)
        if not of_array and called != str(number) and self._named_by_other_numbers():
            raise ValueError(
                f"The classes are called {', '.join(self.classes)}, and number {number} of them is {called!r}: "
                "give a name as a text, or numbers as an array."
            )
        return number

    def _named_by_other_numbers(self) -> bool:
        """Whether a class is called by a whole number that is not its place."""
        numbered = [
            (place, int(name))
            for place, name in enumerate(self.classes)
            if re.fullmatch(r"[+-]?\d{1,18}", name)
        ]
        return any(place != number for place, number in numbered)

    # Computation

    def _compute(
        self, program: Program, name: str, inputs: tuple[Any, ...], seed: int, size: int | None = None
    ) -> Any:
        """A program's output for all rows of its inputs, in blocks of one size, on the devices in turn."""
        n = len(jax.tree.leaves(inputs)[0])
        size = size or fixed_batch(program) or min(BLOCK, n)
        call: Callable[..., Any] = self._jitted(program.call)
        key = named_key(_picture_key(seed), name)
        parts: list[Any] = []
        pending: list[Any] = []
        for index, start in enumerate(range(0, n, size)):
            device = self._devices[index % len(self._devices)]
            rows = jax.device_put(
                jax.tree.map(lambda x, start=start: padded_rows(x, start, size), inputs), device
            )
            bits = jax.device_put(np.asarray(jax.random.key_data(jax.random.fold_in(key, index))), device)
            pending.append(call(self._on_device(name, device), bits, *rows))
            if len(pending) == len(self._devices):
                parts += [jax.tree.map(np.asarray, part) for part in pending]
                pending = []
        parts += [jax.tree.map(np.asarray, part) for part in pending]
        return jax.tree.map(lambda *blocks: np.concatenate(blocks)[:n], *parts)


def as_floats(images: Any) -> np.ndarray:
    """Examples as float32, images of uint8 in [-1, 1].

    Images are somewhat beyond [-1, 1] where nothing bounds a generator's samples.

    Raises:
      ValueError: for other integers, which may be of either range; or numbers that are not finite, are masked, or
        are those of images in [0, 255].

    Warns:
      UserWarning: for images whose numbers are all in [0, 1], uint8 too.
    """
    check_unmasked("examples", images)
    given: Any = np.asarray(images)
    if given.dtype != np.uint8 and given.dtype.kind != "f" and given.dtype.name != "bfloat16":
        raise ValueError(f"Examples are floats, images uint8 or floats in [-1, 1]; got {given.dtype}.")
    floats = np.asarray(decode(given) if given.dtype == np.uint8 else given, np.float32)
    check_all_finite("examples", floats)
    if given.ndim >= 3 and given.size:
        if given.dtype == np.uint8:
            _warn_of_dark(given)
        else:
            _check_range(float(floats.min()), float(floats.max()))
    return floats


def _condition(given: Any, dtype: Any) -> np.ndarray:
    """A condition `[n, ...]` in the dtype of the generator's input: images of uint8 in [-1, 1], as in training.

    Floats are taken as they are, as what is no image: a map may have a range of its own.
    """
    check_unmasked("conditions", given)
    array: Any = np.asarray(given)
    check_all_finite("conditions", array)
    if array.ndim != 4 or not np.issubdtype(dtype, np.floating):
        return array.astype(dtype)
    if array.dtype == np.uint8:
        _warn_of_dark(array)
        return np.asarray(decode(array), dtype)
    if array.dtype.kind in "iub":
        raise ValueError(f"Images to translate are uint8, or floats in [-1, 1]; got {array.dtype}.")
    if array.size and (fix := _other_range(float(array.min()), float(array.max()))):
        warnings.warn(fix, stacklevel=4)
    return array.astype(dtype)


def _warn_of_dark(images: np.ndarray) -> None:
    """Warns of uint8 images of 0 and 1: masks that were recognised as black and white when they were trained on."""
    if images.size and images.max() == 1:
        warnings.warn(
            "uint8 images of 0 and 1 are nearly black, as 255 is white: if 1 is white, give 255 * x.",
            stacklevel=5,
        )


def _other_range(low: float, high: float) -> str:
    """What to give instead where floats from `low` to `high` look like images of another range; else nothing."""
    found = f"Images are uint8 or floats in [-1, 1], and these floats are in [{low:g}, {high:g}]"
    if low >= 0 and high > _MOST_WHITE:
        return f"{found}: give them as uint8, or x / 127.5 - 1."
    looks_unit = -ROUNDING * high <= low < high <= 1 + ROUNDING
    return f"{found}: if 0 is black, give 2 * x - 1." if looks_unit else ""


def _check_range(low: float, high: float) -> None:
    if not (fix := _other_range(low, high)):
        return
    if high > 1:
        raise ValueError(fix)
    warnings.warn(fix, stacklevel=3)


def check_all_finite(name: str, array: np.ndarray) -> None:
    """Raises a ValueError if numbers are NaN or infinite."""
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ValueError(
            f"{name}: {int((~np.isfinite(array)).sum())} of {array.size} numbers are NaN or infinite."
        )


def _picture_key(seed: int) -> Key:
    """The key of a seed's pictures; JAX drops the upper bits of larger seeds, which would be those of others.

    Raises:
      ValueError: if the seed is no whole number of 32 bits.
    """
    check_count("Model", "seed", seed, least=0)
    if seed > _MOST_SEED:
        raise ValueError(f"Model(seed={seed}): seed is a whole number, 0 to {_MOST_SEED}.")
    return named_key(jax.random.key(operator.index(seed)), "picture")


def _discrete(leaf: np.ndarray) -> np.ndarray:
    """Which components of draws `[CHUNK, ...]` have two values at most."""
    low, high = leaf.min(axis=0), leaf.max(axis=0)
    return np.all((leaf == low) | (leaf == high), axis=0)


def _is_label(shape: Any) -> bool:
    return len(shape.shape) == 1 and np.issubdtype(shape.dtype, np.integer)


def _rows(*given: Any) -> int:
    """How many rows the first array that is given has."""
    for tree in given:
        if tree is not None and not isinstance(tree, str) and np.ndim(leaf := jax.tree.leaves(tree)[0]) > 0:
            return len(leaf)
        if isinstance(tree, list | tuple):
            return len(tree)
    raise ValueError("sample needs n, how many samples to draw.")


def _shown(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
