"""The page of a generator of images, as a server answers it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from gan_jax.explore.latent_space import LatentSpace
from gan_jax.explore.nearest import TrainingImages
from gan_jax.explore.server import Answer, Query, Routes, as_json, whole
from gan_jax.models.model import Model
from gan_jax.models.portable import fixed_batch

MOST_SAMPLES = 256
"""Samples in one answer."""
MOST_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSource:
    """Where the page's model, data and curves come from.

    Attributes:
      name: what the page calls the run.
      load: `round -> model`.
      newest: the newest round that is saved, and the digest of its checkpoint.
      training: the training images `[N, H, W, C]`; `None` where the run's data cannot be read here.
      note: why not.
      curves: `step -> records after it`, see `curves.records_after`.
    """

    name: str
    load: Callable[[int | None], Model]
    newest: Callable[[], tuple[int, str]]
    training: Callable[[], np.ndarray] | None
    note: str
    curves: Callable[[int], Mapping[str, Any]]


class ImageSession:
    """Answers the page's questions with the newest checkpoint, which it reads again as a run goes on.

    Args:
      source: the run.
    """

    def __init__(self, source: ImageSource):
        self._source = source
        self._tried = source.newest()
        self._show(source.load(None))
        self._images: np.ndarray | None = None
        self._neighbors: tuple[Model, TrainingImages] | None = None

    def _show(self, model: Model) -> None:
        self.model = model
        self.space = LatentSpace.of(model)
        self._description: dict[str, Any] | None = None

    def routes(self) -> Routes:
        """What the page asks for, by method and path."""
        return {
            ("GET", "/explore.json"): self._describe,
            ("GET", "/now.json"): self._now,
            ("GET", "/latents.f32"): self._latents,
            ("POST", "/map.f32"): self._map,
            ("POST", "/samples.f32"): self._samples,
            ("POST", "/nearest.json"): self._nearest,
            ("GET", "/curves.json"): self._curves,
        }

    def describe(self) -> dict[str, Any]:
        """What the page is made of, at the newest checkpoint."""
        newest = self._source.newest()
        if newest not in ((self.model.round, self.model.checkpoint), self._tried):
            self._tried = newest  # one that is damaged is passed over, and not read again and again
            self._show(self._source.load(None))
        if self._description is None:
            self._description = {
                **described(self._source.name, self.model, self.space),
                "served": True,
                "nearest": self._comparisons(),
                "note": self._source.note,
            }
        return self._description

    def _now(self, query: Query, body: bytes) -> Answer:
        step, digest = self._source.newest()
        return as_json({"round": step, "checkpoint": digest})

    def _describe(self, query: Query, body: bytes) -> Answer:
        return as_json(self.describe())

    def _comparisons(self) -> list[str]:
        if self._source.training is None:
            return []
        return ["pixels", *(["features"] if has_features(self.model) else [])]

    def _latents(self, query: Query, body: bytes) -> Answer:
        first = whole(query, "first", 0, MOST_SEED)
        count = whole(query, "count", 36, MOST_SAMPLES)
        choices = self.describe()["truncations"]
        choice = whole(query, "truncation", 0, len(choices) - 1)
        if not count:
            raise ValueError("count is 1 or more.")
        if first + count - 1 > MOST_SEED:
            raise ValueError(f"Seeds go up to {MOST_SEED}, got {count} from {first} on.")
        return as_floats(self.space.seeds(range(first, first + count), choices[choice]))

    def _rows(self, body: bytes, size: int) -> np.ndarray:
        if not body or len(body) % (4 * size) or len(body) // (4 * size) > MOST_SAMPLES:
            raise ValueError(
                f"A request is 1 to {MOST_SAMPLES} rows of {size} float32, got {len(body)} bytes."
            )
        rows = np.frombuffer(body, "<f4").reshape(-1, size)
        if not np.isfinite(rows).all():
            raise ValueError("Latents are finite numbers.")
        return rows

    def _labels(self, query: Query, count: int) -> list[int] | None:
        if not self.model.classes:
            return None
        texts = query.get("labels", "0").split(",")
        labels = [whole({"label": text}, "label", 0, len(self.model.classes) - 1) for text in texts]
        if len(labels) not in (1, count):
            raise ValueError(f"labels are one for all or {count}, got {len(labels)}.")
        return labels * count if len(labels) == 1 else labels

    def _map(self, query: Query, body: bytes) -> Answer:
        if not self.space.mapped:
            raise ValueError("This generator has no mapping network.")
        z = self._rows(body, self.space.size)
        return as_floats(self.space.map(z, self._labels(query, len(z))))

    def _samples(self, query: Query, body: bytes) -> Answer:
        size = self.model.mean_w.size if self.space.mapped else self.space.size
        points = self._rows(body, size)
        labels, seeds = self._labels(query, len(points)), _seeds(query, len(points))
        return as_floats(self.space.render(points, labels, seeds))

    def _nearest(self, query: Query, body: bytes) -> Answer:
        if self._source.training is None:
            raise ValueError(self._source.note)
        shape = self.model.sample_shape
        image = self._rows(body, int(np.prod(shape)))[0].reshape(shape)
        if self._images is None:
            self._images = self._source.training()
        if self._neighbors is None or self._neighbors[0] is not self.model:
            model = self.model
            features = (lambda x: model.critic_outputs(x)["features"]) if has_features(model) else None
            self._neighbors = (model, TrainingImages(self._images, features))
        return as_json(self._neighbors[1].nearest(image, by=query.get("by", "pixels")))

    def _curves(self, query: Query, body: bytes) -> Answer:
        return as_json(self._source.curves(whole(query, "after", 0, 2**31) - 1))


def _seeds(query: Query, count: int) -> list[int] | None:
    """The seed of each sample, whose noise its layers draw."""
    if "seeds" not in query:
        return None
    seeds = [whole({"seed": text}, "seed", 0, MOST_SEED) for text in query["seeds"].split(",")]
    if len(seeds) != count:
        raise ValueError(f"seeds are {count}, got {len(seeds)}.")
    return seeds


def as_floats(array: np.ndarray) -> Answer:
    """An array as float32, the lowest byte first."""
    return Answer(np.ascontiguousarray(array, "<f4").tobytes())


def described(name: str, model: Model, space: LatentSpace) -> dict[str, Any]:
    """What the page says of a generator of images, and what it moves."""
    return {
        "kind": "images",
        "name": name,
        "objective": str(model.config.get("objective", "")),
        "player": model.player,
        "round": model.round,
        "checkpoint": model.checkpoint,
        "weights": model.kind,
        "shape": list(model.sample_shape),
        "classes": list(model.classes),
        **space.description(),
    }


def has_features(model: Model) -> bool:
    """Whether the critic scores images without a label and has features of each."""
    critic = model.critic
    if critic is None or len(critic.inputs) != 1 or model.critic_group != 1:
        return False
    n = fixed_batch(critic) or 1
    rows = [jax.ShapeDtypeStruct((n, *leaf.shape[1:]), leaf.dtype) for leaf in critic.inputs]
    key = jax.ShapeDtypeStruct((2,), np.uint32)
    return "features" in jax.eval_shape(critic.call, dict(critic.weights), key, *rows)
