"""What of a generator's latent the page moves: its parts, the codes in it, directions, and the latents of seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from gan_jax.models.model import Model
from gan_jax.types import Tree

DIRECTIONS = 12
"""Sliders at most."""
TRUNCATIONS = (None, 2.0, 1.5, 1.0, 0.7, 0.5)
"""Largest sizes of a component of z between which the page chooses; `None` draws from the prior as it is."""
W_SAMPLES = 10_000
RENDERED = 2048
"""Samples from which the directions of z are estimated, about."""
_STEP = 0.1
_SIDE = 64


@dataclasses.dataclass(frozen=True)
class Codes:
    """The parts of a latent that are a code (InfoGAN), by their places in the flat latent.

    Attributes:
      categories: first place and number of categories of each categorical part, which is one-hot.
      numbers: the places of numbers in [-1, 1].
    """

    categories: tuple[tuple[int, int], ...] = ()
    numbers: tuple[int, ...] = ()

    @property
    def places(self) -> set[int]:
        """All places of the code."""
        return {start + i for start, size in self.categories for i in range(size)} | set(self.numbers)


@dataclasses.dataclass(frozen=True, eq=False)
class Directions:
    """Directions in the space in which the page moves.

    Attributes:
      method: how they were found, for the page.
      vectors: unit vectors `[K, D]`, that of the largest effect first.
      deviations: `[K]`, the standard deviation of the latents along each.
      shares: `[K]`, each one's share of what all directions explain.
    """

    method: str
    vectors: np.ndarray
    deviations: np.ndarray
    shares: np.ndarray


def flat(latents: Tree) -> np.ndarray:
    """Latents as one array `[n, D]`: the leaves side by side.

    >>> flat({"a": np.zeros((2, 3)), "b": np.ones((2, 1, 2))}).shape
    (2, 5)
    """
    leaves = jax.tree.leaves(latents)
    return np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in leaves], axis=1)


def unflat(rows: np.ndarray, like: Tree) -> Tree:
    """The latents `[n, ...]` of the structure and the shapes of `like` that `flat` makes `rows` of.

    >>> unflat(np.arange(4.0).reshape(2, 2), {"a": np.zeros((1, 1)), "b": np.zeros((1, 1))})["b"].tolist()
    [[1.0], [3.0]]
    """
    shapes, structure = jax.tree.flatten(like)
    sizes = [int(np.prod(leaf.shape[1:])) for leaf in shapes]
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    leaves = [
        part.reshape(len(rows), *leaf.shape[1:]).astype(leaf.dtype)
        for part, leaf in zip(parts, shapes, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)


def codes_of(drawn: np.ndarray) -> Codes:
    """The code in latents `[n, D]` of a prior: one-hot parts, and numbers in [-1, 1] beside ones without a bound.

    >>> rng = np.random.default_rng(0)
    >>> one_hot = np.eye(3)[rng.integers(3, size=500)]
    >>> codes_of(np.concatenate([one_hot, rng.uniform(-1, 1, (500, 1)), rng.normal(size=(500, 2))], axis=1))
    Codes(categories=((0, 3),), numbers=(3,))
    """
    binary = np.all((drawn == 0) | (drawn == 1), axis=0)
    categories, place = [], 0
    while place < drawn.shape[1]:
        size = 1
        if binary[place]:
            while place + size < drawn.shape[1] and binary[place + size] and not _one_hot(drawn, place, size):
                size += 1
            if size > 1 and _one_hot(drawn, place, size):
                categories.append((place, size))
        place += size
    bounded = ~binary & np.all(np.abs(drawn) <= 1, axis=0)
    rest = ~binary & ~bounded
    return Codes(tuple(categories), tuple(np.flatnonzero(bounded).tolist()) if rest.any() else ())


def _one_hot(drawn: np.ndarray, start: int, size: int) -> bool:
    return bool(np.all(drawn[:, start : start + size].sum(axis=1) == 1))


def principal_components(points: np.ndarray, count: int = DIRECTIONS) -> Directions:
    """The principal components of points `[n, D]`.

    References:
      Härkönen et al., GANSpace: Discovering Interpretable GAN Controls, 2020 (arXiv:2004.02546), section 2: of w,
      for generators with a mapping network.

    >>> found = principal_components(np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    >>> found.vectors.tolist(), found.shares.round(2).tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [0.9, 0.1])
    """
    centred = points - points.mean(axis=0)
    variances, vectors = _eigenvectors(centred.T @ centred / len(points))
    return Directions(
        "principal components of w (GANSpace)",
        vectors[:count],
        np.sqrt(variances[:count]),
        (variances / max(variances.sum(), np.finfo(np.float64).tiny))[:count],
    )


def metric_directions(
    render: Callable[[np.ndarray], np.ndarray],
    points: np.ndarray,
    free: Sequence[int],
    deviations: np.ndarray,
    count: int = DIRECTIONS,
) -> Directions:
    """The directions of a latent along which samples change most: eigenvectors of the mean of J^T J.

    J is the Jacobian of the sample by the latent, by differences over a step of a tenth; large images are averaged
    to 64 pixels a side.

    Args:
      render: `latents [n, D] -> samples [n, ...]`.
      points: latents `[m, D]` at which J is taken.
      free: the places that directions may move.
      deviations: the latents' standard deviations at every place, `[D]`.
      count: directions at most.

    References:
      Wang and Ponce, The Geometry of Deep Generative Image Models and its Applications, 2021 (arXiv:2101.06006),
      section 3: the metric of pixels, averaged over latents.

    >>> samples = lambda z: np.stack([2 * z[:, 1], z[:, 0]], axis=1)
    >>> metric_directions(samples, np.zeros((1, 2)), (0, 1), np.ones(2)).vectors.round(3).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    places = np.array(free)
    total = np.zeros((len(places), len(places)))
    for point in points:
        nudged = np.repeat(point[None], len(places), axis=0)
        ahead, behind = nudged.copy(), nudged
        ahead[np.arange(len(places)), places] += _STEP
        behind[np.arange(len(places)), places] -= _STEP
        change = _reduced(render(ahead)).astype(np.float64) - _reduced(render(behind))
        jacobian = change.reshape(len(places), -1) / (2 * _STEP)
        total += jacobian @ jacobian.T / len(points)
    strengths, found = _eigenvectors(total)
    vectors = np.zeros((len(found), points.shape[1]))
    vectors[:, places] = found
    return Directions(
        "directions of z that change the pixels most (eigenvectors of the mean metric J'J)",
        vectors[:count],
        np.sqrt(np.square(vectors[:count] * deviations).sum(axis=1)),
        (strengths / max(strengths.sum(), np.finfo(np.float64).tiny))[:count],
    )


def _eigenvectors(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, the largest first, and eigenvectors in rows, whose largest component is positive."""
    values, columns = np.linalg.eigh(symmetric)
    rows = columns.T[::-1]
    largest = rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)]
    return np.maximum(values[::-1], 0.0), rows * np.sign(largest)[:, None]


def _reduced(samples: np.ndarray) -> np.ndarray:
    """Images averaged over blocks until no side has more than 64 pixels; what does not fill a block is left out."""
    if samples.ndim != 4:
        return samples
    n, height, width, channels = samples.shape
    block = max(1, max(height, width) // _SIDE)
    rows, columns = height // block, width // block
    cropped = samples[:, : rows * block, : columns * block]
    return cropped.reshape(n, rows, block, columns, block, channels).mean(axis=(2, 4))


@dataclasses.dataclass(frozen=True, eq=False)
class LatentSpace:
    """The latent of a model as the page has it: flat, `[n, D]`.

    Attributes:
      model: the generator.
      mapped: whether the page moves w, the output of the mapping network, rather than z.
      codes: the code in z.
    """

    model: Model
    mapped: bool
    codes: Codes

    @classmethod
    def of(cls, model: Model) -> LatentSpace:
        """The latent space of a model that has one."""
        return cls(model, model.player in model.programs.mappings, codes_of(flat(model.latents(1000))))

    @property
    def size(self) -> int:
        """D of z."""
        return sum(int(np.prod(leaf.shape[1:])) for leaf in jax.tree.leaves(self._like))

    @property
    def _like(self) -> Tree:
        return self.model.generator.inputs[0]

    def seeds(self, seeds: Sequence[int], truncation: float | None = None) -> np.ndarray:
        """The first latent of each seed, `[n, D]`, as `--mode=sample --sample_seeds` has them.

        Raises:
          ValueError: if the prior has no values within the truncation.
        """
        rows = [flat(self.model.latents(1, seed=seed, truncation=truncation)) for seed in seeds]
        return np.concatenate(rows).astype(np.float32)

    def truncations(self) -> list[float | None]:
        """The choices of truncation of z: those that leave the prior values; none where w is truncated."""
        found: list[float | None] = []
        for value in TRUNCATIONS[:1] if self.mapped else TRUNCATIONS:
            try:
                self.seeds([0], value)
            except ValueError:
                continue
            found.append(value)
        return found

    def map(self, z: np.ndarray, labels: Sequence[int] | None) -> np.ndarray:
        """w `[n, ...]` of latents `[n, D]`."""
        return self.model.mapped(unflat(z, self._like), self.model.condition_rows(len(z), _labels(labels)))

    def render(
        self, points: np.ndarray, labels: Sequence[int] | None, seeds: Sequence[int] | None = None
    ) -> np.ndarray:
        """Samples `[n, ...]` of the points that the page moves.

        Args:
          points: w flattened, or z, `[n, D]`.
          labels: the class of each.
          seeds: whose noise the layers draw for each, where they draw any: so a sample is the same alone and among
            others. Without them a sample's noise is that of its place.
        """
        if seeds is None or not self.model.draws_noise:
            return self._rendered(points, labels, seed=0)
        classes = [None] * len(points) if labels is None else [[label] for label in labels]
        rows = zip(points, classes, seeds, strict=True)
        return np.concatenate([self._rendered(point[None], label, seed) for point, label, seed in rows])

    def _rendered(self, points: np.ndarray, labels: Sequence[int] | None, seed: int) -> np.ndarray:
        if self.mapped:
            shape = self.model.programs.syntheses[self.model.player].inputs[0].shape[1:]
            return self.model.synthesize(points.reshape(len(points), *shape).astype(np.float32), seed=seed)
        return self.model.sample(z=unflat(points, self._like), labels=_labels(labels), seed=seed)

    def directions(self) -> Directions:
        """The directions of the sliders."""
        if self.mapped:
            z = self.model.latents(W_SAMPLES)
            w = self.model.mapped(z, self.model.condition_rows(W_SAMPLES, None))
            return principal_components(flat(w).astype(np.float64))
        free = [place for place in range(self.size) if place not in self.codes.places]
        if not free:
            return Directions("", np.zeros((0, self.size)), np.zeros(0), np.zeros(0))
        drawn = flat(self.model.latents(1000)).astype(np.float64)
        count = max(1, min(16, RENDERED // (2 * max(1, len(free)))))
        label = [0] * len(free) if self.model.classes else None
        return metric_directions(
            lambda z: self.render(z.astype(np.float32), label), drawn[:count], free, drawn.std(axis=0)
        )

    def description(self) -> dict[str, Any]:
        """What the page is given: parts, codes, directions and choices of truncation."""
        found = self.directions()
        return {
            "size": self.size,
            "space": "w" if self.mapped else "z",
            "latent": [list(leaf.shape[1:]) for leaf in jax.tree.leaves(self._like)],
            "mean_w": self.model.mean_w.ravel().tolist() if self.mapped else None,
            "w_shape": list(self.model.mean_w.shape) if self.mapped else None,
            "categories": [list(part) for part in self.codes.categories],
            "numbers": list(self.codes.numbers),
            "truncations": self.truncations(),
            "method": found.method,
            "directions": found.vectors.tolist(),
            "deviations": found.deviations.tolist(),
            "shares": found.shares.tolist(),
        }


def _labels(labels: Sequence[int] | None) -> np.ndarray | None:
    return None if labels is None else np.asarray(labels, np.int32)
