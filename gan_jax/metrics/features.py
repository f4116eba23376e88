"""Features of images, and scores that say what they were computed from.

Any `images -> [B, D]` is an extractor. A score depends on the extractor, its weights, how images were resized,
their range, how many there were and which: all of that is its fingerprint, and scores of different fingerprints
do not stand in one table without a mark.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import ArrayLike

from gan_jax.data.arrays import decode
from gan_jax.functional.batch import DATA_AXIS
from gan_jax.metrics._check import as_floats
from gan_jax.tables import number_table, text_table
from gan_jax.types import Array, Tree

_ROUNDING = 1e-3
"""How far float images may reach beyond [-1, 1]."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Extractor:
    """What turns images into features.

    Attributes:
      name: what scores call it.
      apply: `(params, images [B, H, W, C] in [-1, 1]) -> {"features": [B, D]}`, and `"logits": [B, K]` of a
        classifier. Example by example: no statistics of the batch.
      params: its weights; `()` if it has none.
      resize: how `apply` resizes images, in words.
      inception: whether this is the standard Inception network for FID; no other extractor's scores are called FID.
      details: what else there is to know, by name (a classifier's held-out accuracy).
    """

    name: str
    apply: Callable[[Tree, Array], Mapping[str, Array]]
    params: Tree = ()
    resize: str = "none"
    inception: bool = False
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def weights(self) -> str:
        """The first 16 hexadecimal digits of the weights' SHA-256; "none" without weights."""
        return tree_digest(self.params)[:16] if jax.tree.leaves(self.params) else "none"


def tree_digest(tree: Tree) -> str:
    """The SHA-256 of a tree's paths, shapes, dtypes and numbers.

    >>> tree_digest({"a": np.zeros(2)}) == tree_digest({"a": np.zeros(3)})
    False
    """
    digest = hashlib.sha256()
    for path, leaf in sorted(
        ((jax.tree_util.keystr(path), np.asarray(leaf)) for path, leaf in jax.tree.leaves_with_path(tree)),
        key=lambda item: item[0],
    ):
        digest.update(f"{path} {leaf.dtype.str} {leaf.shape};".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def from_callable(name: str, features: Callable[[Array], Array], *, resize: str = "none") -> Extractor:
    """Any JAX function `images [B, H, W, C] in [-1, 1] -> [B, D]` as an extractor; its name is what scores show.

    Arrays that the function carries with it, in its closure, its globals or a partial's arguments, are its weights.

    >>> brightness = from_callable("brightness", lambda x: x.mean(axis=(1, 2)))
    >>> extract(brightness, np.zeros((5, 4, 4, 3), np.float32)).features.shape
    (5, 3)
    """
    return Extractor(
        name=name,
        apply=lambda params, x: {"features": features(x)},
        params=_carried(features),
        resize=resize,
    )


def _carried(function: Callable[..., Any]) -> list[Any]:
    """The arrays that a function uses and is not given."""
    if isinstance(function, functools.partial):
        held: list[Any] = [*function.args, *function.keywords.values()]
        return [*_arrays(held), *_carried(function.func)]
    if inspect.ismethod(function):
        return [*_arrays(vars(function.__self__)), *_carried(function.__func__)]
    if not inspect.isfunction(function):
        return _arrays(getattr(function, "__dict__", {}))
    used = inspect.getclosurevars(function)
    return _arrays([*used.nonlocals.values(), *used.globals.values()])


def _arrays(tree: Tree) -> list[Any]:
    found = (leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, np.ndarray | jax.Array))
    return [leaf for leaf in found if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]


def pixels() -> Extractor:
    """The pixels themselves."""
    return from_callable("pixels", lambda x: x.reshape(x.shape[0], -1))


class Features(NamedTuple):
    """What an extractor made of a set of images.

    Attributes:
      features: `[N, D]`, float32 (float64 of an extractor's wider numbers).
      logits: `[N, K]`, or None.
      value_range: the images' dtype and range, in words.
      extractor: which.
      data: `set_digest` of the images.
    """

    features: np.ndarray
    logits: np.ndarray | None
    value_range: str
    extractor: Extractor
    data: str = ""


def set_digest(samples: np.ndarray) -> str:
    """Eight hexadecimal digits that tell sets of samples `[N, ...]` apart, whatever the order of their samples.

    >>> x = np.arange(6.0).reshape(3, 2)
    >>> set_digest(x) == set_digest(x[::-1]), set_digest(x) == set_digest(x[:2])
    (True, False)
    """
    rows = np.ascontiguousarray(samples).reshape(len(samples), -1)
    total = sum(int.from_bytes(hashlib.blake2b(row.data, digest_size=8).digest(), "big") for row in rows)
    return hashlib.blake2b(
        f"{total} {rows.dtype.str} {np.shape(samples)}".encode(), digest_size=4
    ).hexdigest()


def check_images(images: ArrayLike, name: str) -> np.ndarray:
    """Images as an array `[N, H, W, C]`, uint8 in [0, 255] or floats in [-1, 1].

    Booleans become 0 and 255. A range that is allowed but looks like another, [0, 1], gives a warning in one line.

    Raises:
      ValueError: where the shape, the dtype or the range is another, or entries are not finite.
    """
    given = np.asarray(images)
    if given.ndim != 4 or given.shape[3] not in (1, 3) or not len(given):
        raise ValueError(
            f"{name}: expected images [N, H, W, C], C = 1 or 3, N > 0; got shape {given.shape}"
            f"{_layout(given.shape)}."
        )
    if given.dtype == np.bool_:
        warnings.warn(f"{name}: boolean images are taken as black and white, 0 and 255.", stacklevel=3)
        return given.astype(np.uint8) * np.uint8(255)
    if given.dtype == np.uint8:
        if given.max() == 1:
            warnings.warn(
                f"{name}: uint8 images in [0, 1], nearly black where 255 is white: if 1 is white, multiply by 255.",
                stacklevel=3,
            )
        return given
    if given.dtype.kind != "f" and given.dtype.name != "bfloat16":
        raise ValueError(f"{name}: expected uint8 in [0, 255] or floats in [-1, 1], got dtype {given.dtype}.")
    floats = as_floats(given, name, np.float32)
    low, high = float(floats.min()), float(floats.max())
    if low < -1 - _ROUNDING or high > 1 + _ROUNDING:
        raise ValueError(
            f"{name}: float images lie in [-1, 1], these in [{low:.6g}, {high:.6g}]: bring them there first "
            "(from [0, 255]: x / 127.5 - 1; from [0, 1]: 2 x - 1; from a little outside: clip them)."
        )
    if 0 <= low < high:
        warnings.warn(
            f"{name}: float images in [{low:.3g}, {high:.3g}], nowhere below 0, the grey between -1 and 1: "
            "if 0 is black, bring them to [-1, 1] first (2 x - 1).",
            stacklevel=3,
        )
    return floats


def _layout(shape: tuple[int, ...]) -> str:
    """Which layout a shape may be of, and how to bring it to ours."""
    if len(shape) == 4 and shape[1] in (1, 3):
        return ", which may be [N, C, H, W]: take np.moveaxis(images, 1, 3)"
    if len(shape) == 3 and shape[2] in (1, 3):
        return ", which may be one image [H, W, C]: take images[None]"
    if len(shape) == 3:
        return ", which may be grey images [N, H, W]: take images[..., None]"
    return ""


def extract(
    extractor: Extractor,
    images: ArrayLike,
    *,
    batch_size: int = 256,
    mesh: Mesh | None = None,
    name: str = "images",
) -> Features:
    """Runs an extractor over images, batch by batch.

    Args:
      extractor: what to run.
      images: `[N, H, W, C]`, uint8 or floats in [-1, 1].
      batch_size: images at once; the last batch is filled up, so one program serves all.
      mesh: devices to spread each batch over, along the axis "data"; its size divides `batch_size`.
      name: what errors call the images.

    Raises:
      ValueError: for bad images, or features that are not `[B, D]` or not finite.
    """
    given = check_images(images, name)
    params, run = _compiled(extractor)
    place: Any = None if mesh is None else NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    size = batch_size if mesh is not None else min(batch_size, len(given))
    outputs: dict[str, list[np.ndarray]] = {"features": [], "logits": []}
    for start in range(0, len(given), size):
        part = given[start : start + size]
        filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        made = run(params, jax.device_put(filled, place))
        for kind, collected in outputs.items():
            if kind in made:
                collected.append(np.asarray(made[kind])[: len(part)])
    features = np.concatenate(outputs["features"])
    if features.ndim != 2:
        raise ValueError(f"Extractor {extractor.name!r} makes features [B, D], got {features.shape}.")
    features = as_floats(features, f"features of {name} by {extractor.name!r}")
    logits = None
    if outputs["logits"]:
        logits = as_floats(np.concatenate(outputs["logits"]), f"logits of {name} by {extractor.name!r}")
    value_range = "uint8 [0, 255]" if given.dtype == np.uint8 else "float [-1, 1]"
    return Features(features, logits, value_range, extractor, set_digest(given))


@functools.lru_cache(maxsize=8)
def _compiled(extractor: Extractor) -> tuple[Tree, Callable[[Tree, Array], Mapping[str, Array]]]:
    def run(params: Tree, images: Array) -> Mapping[str, Array]:
        return extractor.apply(params, decode(images) if images.dtype == jnp.uint8 else images)

    return jax.tree.map(jnp.asarray, extractor.params), jax.jit(run)


def classify(extractor: Extractor, images: ArrayLike, **options: Any) -> np.ndarray:
    """The classes that a classifier sees in images, `[N]`; options as of `extract`.

    Raises:
      ValueError: for bad images, or an extractor without logits.
    """
    found = extract(extractor, images, **options)
    if found.logits is None:
        raise ValueError(f"Extractor {extractor.name!r} has no logits: take a classifier.")
    return found.logits.argmax(axis=1)


# --- fingerprints -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a score depends on besides the two distributions.

    Attributes:
      extractor, weights, resize: of the features.
      value_range: of the images, real and fake.
      real, fake: how many samples.
      split: which real data, in words.
      seed: of shuffles and subsets.
      settings: the metrics' own settings, by name, in words.
      data: the real data's `set_digest`: two sets that bear one name are told apart.
    """

    extractor: str
    weights: str
    resize: str
    value_range: str
    real: int
    fake: int
    split: str
    seed: int
    settings: str = ""
    data: str = ""

    @property
    def key(self) -> str:
        """Eight hexadecimal digits that are the same only where all of it is."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:8]

    def differences(self, other: Fingerprint) -> list[str]:
        """`field: this against that`, for every field that differs."""
        ours, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return [f"{name}: {ours[name]} against {theirs[name]}" for name in ours if ours[name] != theirs[name]]

    def __str__(self) -> str:
        fields = {k: v for k, v in dataclasses.asdict(self).items() if v != ""}
        return f"[{self.key}] " + ", ".join(f"{k} {v}" for k, v in fields.items())


@dataclasses.dataclass(frozen=True)
class Scores:
    """Numbers and the fingerprint that they share.

    Attributes:
      values: by name; a metric's standard error stands beside it as `NAME_error`.
      fingerprint: what they depend on.
      left_out: the metrics that could not be computed, by name, and why.
    """

    values: Mapping[str, float]
    fingerprint: Fingerprint
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `{"values", "fingerprint", "key"}`, and `left_out` where something was."""
        return {
            "values": dict(self.values),
            "fingerprint": dataclasses.asdict(self.fingerprint),
            "key": self.fingerprint.key,
            **({"left_out": dict(self.left_out)} if self.left_out else {}),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Scores:
        """The inverse of `as_dict`."""
        left_out = dict(stored.get("left_out", {}))
        return cls(dict(stored["values"]), Fingerprint(**stored["fingerprint"]), left_out)

    def __str__(self) -> str:
        lines = [[name, f"{value:.6g}"] for name, value in self.values.items()]
        reasons = [f"left out: {name}: {reason}" for name, reason in self.left_out.items()]
        return "\n".join([text_table(lines, align="lr"), *reasons, str(self.fingerprint)])


def score_table(rows: Mapping[str, Scores]) -> str:
    """A table of scores; a row with another fingerprint than the first row's is marked, and told below in what.

    Args:
      rows: scores by label.

    Raises:
      ValueError: without rows.

    >>> one = Fingerprint(extractor="pixels", weights="none", resize="none", value_range="float [-1, 1]",
    ...                   real=100, fake=100, split="test", seed=0)
    >>> other = dataclasses.replace(one, fake=50)
    >>> print(score_table({"a": Scores({"frechet": 1.5}, one), "b": Scores({"frechet": 2.25}, other)}))
           frechet
    a          1.5
    b [1]     2.25
    Not comparable with the first row:
    [1] fake: 100 against 50
    """
    if not rows:
        raise ValueError("A table has one row or more.")
    first = next(iter(rows.values())).fingerprint
    marks: dict[Fingerprint, str] = {}
    labels = {}
    for label, scores in rows.items():
        if scores.fingerprint != first:
            marks.setdefault(scores.fingerprint, f"[{len(marks) + 1}]")
        labels[label] = f"{label} {marks[scores.fingerprint]}" if scores.fingerprint in marks else label
    table = number_table({labels[label]: scores.values for label, scores in rows.items()})
    notes = [f"{mark} {'; '.join(first.differences(fingerprint))}" for fingerprint, mark in marks.items()]
    return "\n".join([table, *(["Not comparable with the first row:", *notes] if notes else [])])


def check_same_range(real: ArrayLike, fake: ArrayLike) -> None:
    """Raises a ValueError where both are floats, and the real images look like [0, 1] and the fakes do not.

    Bytes and floats go together: uint8 is brought to [-1, 1]. Fakes without a dark pixel are no error: a
    generator can come to that.
    """
    sides = np.asarray(real), np.asarray(fake)
    if any(side.dtype.kind != "f" or not side.size for side in sides):
        return
    low_real, low_fake = (float(side.min()) for side in sides)
    if low_real >= 0 and low_fake < -0.5:
        raise ValueError(
            f"The real images are nowhere below 0, the fakes reach {low_fake:.3g}: these look like [0, 1] against "
            "[-1, 1]. Bring both to [-1, 1] (2 x - 1)."
        )


def names_of(extractor: Extractor) -> dict[str, str]:
    """What the metrics are called: FID, KID and Inception score only on the standard Inception's features."""
    if extractor.inception:
        return {"frechet": "fid", "kernel": "kid", "score": "inception_score"}
    return {"frechet": "frechet", "kernel": "kernel", "score": "classifier_score"}


def features_of(
    images: ArrayLike | Features, extractor: Extractor, name: str, options: Mapping[str, Any]
) -> Features:
    """Features as they are, or extracted from images.

    Raises:
      ValueError: where features are of another extractor.
    """
    if not isinstance(images, Features):
        return extract(extractor, images, name=name, **options)
    if (images.extractor.name, images.extractor.weights) != (extractor.name, extractor.weights):
        raise ValueError(
            f"{name}: features by {images.extractor.name!r} ({images.extractor.weights}), but scores were asked "
            f"for by {extractor.name!r} ({extractor.weights})."
        )
    return images


def channel_classes(extractor: Extractor, images: ArrayLike, **options: Any) -> np.ndarray:
    """A digit classifier's verdict on every channel of stacked digits: `[N, H, W, C]` to `[N, C]`."""
    given = np.asarray(images)
    if given.ndim != 4:
        raise ValueError(f"Stacked digits are [N, H, W, C], got shape {given.shape}.")
    columns: Sequence[np.ndarray] = [
        classify(extractor, given[..., channel : channel + 1], **options) for channel in range(given.shape[3])
    ]
    return np.stack(columns, axis=1)
