"""Features of images: any function `images -> [B, D]` is an extractor."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import ArrayLike

from gan_jax.compiler import compiler_options
from gan_jax.data.arrays import decode
from gan_jax.functional.batch import DATA_AXIS
from gan_jax.functional.options import check_unmasked
from gan_jax.metrics._check import as_floats
from gan_jax.metrics.progress import progress_bar
from gan_jax.precision import configured
from gan_jax.types import Array, Tree

_ROUNDING = 1e-3
"""The tolerance for float images beyond [-1, 1]."""
EXTRACTED = ("features", "logits", "spatial")
"""What is taken from an extractor's results."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Extractor:
    """A function from images to features.

    Attributes:
      name: its name in fingerprints.
      apply: `(params, images [B, H, W, C] in [-1, 1]) -> {"features": [B, D]}`, with `"logits": [B, K]` for a
        classifier and `"spatial": [B, S]` for one with features of places; other results are not extracted, such as
        the maps of a `"pyramid"` for `networks.ProjectedCritic`. Each example is processed independently, without
        batch statistics.
      params: its weights; `()` if it has none.
      resize: a description of how `apply` resizes images.
      protocol: the name of the published protocol that `resize` follows, see `PROTOCOLS`; empty if there is none.
      inception: whether this is the standard Inception network for FID; no other extractor's scores are called FID.
      stable: whether the name, the protocol and the weights determine the features, so that they may be kept on
        disk; not so for any function of a user's.
      details: extra information by name, such as a classifier's held-out accuracy.
    """

    name: str
    apply: Callable[[Tree, Array], Mapping[str, Any]]
    params: Tree = ()
    resize: str = "none"
    protocol: str = ""
    inception: bool = False
    stable: bool = False
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def weights(self) -> str:
        """The first 16 hexadecimal digits of the weights' SHA-256; "none" without weights."""
        return tree_digest(self.params)[:16] if jax.tree.leaves(self.params) else "none"


def tree_digest(tree: Tree) -> str:
    """The SHA-256 of a tree's paths, shapes, dtypes and values.

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
    """Makes an extractor from a JAX function `images [B, H, W, C] in [-1, 1] -> [B, D]`.

    Arrays that the function refers to, in its closure, its globals or a partial's arguments, count as its weights.

    Args:
      name: the name in fingerprints.
      features: the function.
      resize: a description of how it resizes images.

    >>> brightness = from_callable("brightness", lambda x: x.mean(axis=(1, 2)))
    >>> extract(brightness, np.zeros((5, 4, 4, 3), np.float32)).features.shape
    (5, 3)
    """
    return Extractor(
        name=name,
        apply=lambda params, x: {"features": features(x)},
        params=_captured(features),
        resize=resize,
    )


def _captured(function: Callable[..., Any]) -> list[Any]:
    """The arrays that a function refers to without taking them as arguments."""
    if isinstance(function, functools.partial):
        held: list[Any] = [*function.args, *function.keywords.values()]
        return [*_arrays(held), *_captured(function.func)]
    if inspect.ismethod(function):
        return [*_arrays(vars(function.__self__)), *_captured(function.__func__)]
    if not inspect.isfunction(function):
        return _arrays(getattr(function, "__dict__", {}))
    used = inspect.getclosurevars(function)
    return _arrays([*used.nonlocals.values(), *used.globals.values()])


def _arrays(tree: Tree) -> list[Any]:
    arrays = (leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, np.ndarray | jax.Array))
    return [leaf for leaf in arrays if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]


def pixels() -> Extractor:
    """An extractor that returns the pixels, flattened."""
    return from_callable("pixels", lambda x: x.reshape(x.shape[0], -1))


class Computation(NamedTuple):
    """What computed features, as far as their last digits depend on it.

    Attributes:
      platform: `cpu`, `gpu` or `tpu`.
      device: the kind of device, as JAX names it.
      precision: the precision of matrix products and convolutions.
      prng: JAX's generator of random numbers, by which samples are drawn.
    """

    platform: str = ""
    device: str = ""
    precision: str = ""
    prng: str = ""


BATCH = 64
"""The number of images that a device extracts at once: Inception then takes about 3 GiB on a CPU."""
PRECISION = "highest"
"""The precision of matrix products and convolutions in extractors: float32 on every platform."""


def computation(mesh: Mesh | None = None) -> Computation:
    """What features are computed by: the devices of a mesh, or the default one."""
    device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
    return Computation(device.platform, device.device_kind, PRECISION, configured()[1])


class Features(NamedTuple):
    """The features of a set of images.

    Attributes:
      features: `[N, D]`, float32, or float64 if the extractor's results need it.
      logits: `[N, K]`, or `None` if the extractor is no classifier.
      value_range: a description of the images' dtype and range.
      extractor: the extractor that made them.
      data: `set_digest` of the images.
      computation: the device and the precision; empty if nothing was computed.
      spatial: `[N, S]`, features of places in the image, for sFID; or `None`.
    """

    features: np.ndarray
    logits: np.ndarray | None
    value_range: str
    extractor: Extractor
    data: str = ""
    computation: Computation = Computation()
    spatial: np.ndarray | None = None


def set_digest(samples: np.ndarray) -> str:
    """A digest of eight hexadecimal digits of a set of samples `[N, ...]`, independent of their order.

    >>> x = np.arange(6.0).reshape(3, 2)
    >>> set_digest(x) == set_digest(x[::-1]), set_digest(x) == set_digest(x[:2])
    (True, False)
    """
    return named_digest(sum_of_digests(samples), np.asarray(samples).dtype, np.shape(samples))


def sum_of_digests(samples: np.ndarray) -> int:
    """The sum of the rows' digests, so that the sums of the parts of a set add up to the set's."""
    rows = np.ascontiguousarray(samples).reshape(len(samples), -1)
    return sum(int.from_bytes(hashlib.blake2b(row.data, digest_size=8).digest(), "big") for row in rows)


def named_digest(total: int, dtype: np.dtype, shape: tuple[int, ...]) -> str:
    """The `set_digest` of samples of this dtype and shape whose rows' digests add up to `total`."""
    return hashlib.blake2b(f"{total} {dtype.str} {shape}".encode(), digest_size=4).hexdigest()


def check_images(images: ArrayLike, name: str) -> np.ndarray:
    """Checks images and returns them as an array `[N, H, W, C]`, uint8 in [0, 255] or floats in [-1, 1].

    Booleans become 0 and 255. Values that are allowed but probably in [0, 1] raise a warning.

    Raises:
      ValueError: if the shape, the dtype or the range is another, or entries are not finite.
    """
    check_unmasked(name, images)
    given = np.asarray(images)
    if given.ndim != 4 or given.shape[3] not in (1, 2, 3, 4) or not given.size:
        raise ValueError(
            f"{name}: expected images [N, H, W, C], C = 1 to 4, N, H and W > 0; got shape {given.shape}"
            f"{_layout(given.shape)}."
        )
    if given.dtype == np.bool_:
        warnings.warn(f"{name}: boolean images are converted to 0 (black) and 255 (white).", stacklevel=3)
        return given.astype(np.uint8) * np.uint8(255)
    if given.dtype == np.uint8:
        if given.max() == 1:
            warnings.warn(
                f"{name}: uint8 images in [0, 1] are nearly black (255 is white): if 1 is white, multiply by 255.",
                stacklevel=3,
            )
        return given
    if given.dtype.kind != "f" and given.dtype.name != "bfloat16":
        raise ValueError(f"{name}: expected uint8 in [0, 255] or floats in [-1, 1], got dtype {given.dtype}.")
    floats = as_floats(given, name, np.float32)
    low, high = float(floats.min()), float(floats.max())
    if low < -1 - _ROUNDING or high > 1 + _ROUNDING:
        raise ValueError(
            f"{name}: float images must lie in [-1, 1], but these lie in [{low:.6g}, {high:.6g}]: rescale them "
            "first (from [0, 255]: x / 127.5 - 1; from [0, 1]: 2 x - 1; from slightly outside: clip them)."
        )
    if 0 <= low < high:
        warnings.warn(
            f"{name}: float images in [{low:.3g}, {high:.3g}] have no value below 0, which is mid-grey: if 0 is "
            "black, rescale them to [-1, 1] first (2 x - 1).",
            stacklevel=3,
        )
    return floats


def _layout(shape: tuple[int, ...]) -> str:
    """A hint at the layout that a shape suggests, and how to convert it."""
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
    batch_size: int = BATCH,
    mesh: Mesh | None = None,
    name: str = "images",
    progress: Callable[[int], Any] = lambda n: None,
) -> Features:
    """Runs an extractor over images, batch by batch.

    Time is O(N) forward passes, memory O(N D) for the features beside one batch of activations.

    Args:
      extractor: the extractor.
      images: `[N, H, W, C]`, uint8 or floats in [-1, 1].
      batch_size: the most images in a batch. All batches use the same program, the last one is padded.
      mesh: devices over which each batch is sharded along the axis "data"; their number must divide `batch_size`.
      name: the name of the images in errors.
      progress: called with the number of images after each batch.

    Returns:
      The `Features`, and logits if the extractor is a classifier.

    Raises:
      ValueError: for bad images, or features that are not `[B, D]` or not finite.
    """
    given = check_images(images, name)
    size = batch_size if mesh is not None else _equal_batches(len(given), batch_size)
    batches = (given[start : start + size] for start in range(0, len(given), size))
    outputs = []
    for made in extract_batches(extractor, batches, size, mesh=mesh, name=name):
        outputs.append(made)
        progress(len(made["features"]))
    features = np.concatenate([output["features"] for output in outputs])
    logits, spatial = (
        np.concatenate([output[kind] for output in outputs]) if kind in outputs[0] else None
        for kind in ("logits", "spatial")
    )
    value_range = "uint8 [0, 255]" if given.dtype == np.uint8 else "float [-1, 1]"
    return Features(features, logits, value_range, extractor, set_digest(given), computation(mesh), spatial)


def _equal_batches(number: int, most: int) -> int:
    """The size of as few batches as `most` allows, so that little of the last one is padding.

    A multiple of 4, where `most` allows it: each size is a program that has to be compiled.

    >>> _equal_batches(100, 64), _equal_batches(10, 64), _equal_batches(50_000, 64)
    (52, 12, 64)
    """
    batches = -(-number // most)
    return min(4 * -(-number // (4 * batches)), most)


def extract_batches(
    extractor: Extractor,
    batches: Iterable[np.ndarray],
    size: int,
    *,
    mesh: Mesh | None = None,
    name: str = "images",
) -> Iterator[dict[str, np.ndarray]]:
    """Yields each batch's `features` `[B, D]` and, where there are any, `logits` `[B, K]` and `spatial` `[B, S]`.

    Args:
      extractor: the extractor.
      batches: `[B, H, W, C]`, uint8 or floats in [-1, 1], B at most `size`.
      size: the number of images in the program; smaller batches are padded.
      mesh, name: as in `extract`.

    Raises:
      ValueError: for features that are not `[B, D]` or not finite.
    """
    params, run = _compiled(extractor)
    place: Any = None if mesh is None else NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    for batch in batches:
        filled = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
        outputs = run(params, jax.device_put(filled, place))
        made = {}
        for kind in EXTRACTED:
            if kind in outputs:
                rows = np.asarray(outputs[kind])[: len(batch)]
                made[kind] = as_floats(rows, f"{kind} of {name} by {extractor.name!r}")
        if made["features"].ndim != 2:
            shape = outputs["features"].shape
            raise ValueError(f"Extractor {extractor.name!r} must return features [B, D], got {shape}.")
        yield made


@functools.lru_cache(maxsize=8)
def _compiled(extractor: Extractor) -> tuple[Tree, Callable[[Tree, Array], Mapping[str, Array]]]:
    def run(params: Tree, images: Array) -> Mapping[str, Array]:
        with jax.default_matmul_precision(PRECISION):
            made = extractor.apply(params, decode(images) if images.dtype == jnp.uint8 else images)
        # What is not extracted is left out here, so that the compiler drops it. Scores of the Inception network are
        # of its logits without the bias, as in torch-fidelity and ADM.
        made = {**made, "logits": made["unbiased_logits"]} if "unbiased_logits" in made else made
        return {kind: made[kind] for kind in EXTRACTED if kind in made}

    return jax.tree.map(jnp.asarray, extractor.params), jax.jit(run, compiler_options=compiler_options())


def classify(extractor: Extractor, images: ArrayLike, **options: Any) -> np.ndarray:
    """The classes that a classifier assigns to images, `[N]`; for the options see `extract`.

    Raises:
      ValueError: for bad images, or an extractor without logits.
    """
    logits = extract(extractor, images, **options).logits
    if logits is None:
        raise ValueError(f"Extractor {extractor.name!r} returns no logits: use a classifier.")
    return logits.argmax(axis=1)


def check_same_range(real: ArrayLike, fake: ArrayLike) -> None:
    """Raises a ValueError if both are floats, and the real images are probably in [0, 1] but the fakes are not.

    Bytes can be compared with floats, since uint8 is rescaled to [-1, 1]. Fakes without a dark pixel are no error,
    since a generator can produce them.
    """
    sides = np.asarray(real), np.asarray(fake)
    if any(side.dtype.kind != "f" or not side.size for side in sides):
        return
    low_real, low_fake = (float(side.min()) for side in sides)
    if low_real >= 0 and low_fake < -0.5:
        raise ValueError(
            f"The real images have no value below 0, but the fakes reach {low_fake:.3g}: probably their ranges are "
            "[0, 1] and [-1, 1]. Rescale the real images to [-1, 1] (2 x - 1)."
        )


def marked_as_given(extractor: Extractor, weights: Collection[str]) -> Extractor:
    """The extractor, under a name of its own if a critic was given its features.

    Such a critic teaches its generator these features, and a score by them says little about others: the name
    stands in every fingerprint, and a score by Inception is no FID then.

    Args:
      extractor: the extractor.
      weights: the digests of the features that critics were given, see `Network.frozen_features`.

    >>> marked_as_given(pixels(), []).name
    'pixels'
    """
    if extractor.weights not in weights:
        return extractor
    return dataclasses.replace(extractor, name=f"{extractor.name}, given to the critic", inception=False)


def names_of(extractor: Extractor) -> dict[str, str]:
    """The names of the metrics: those with Inception in them only for the standard Inception's features."""
    if extractor.inception:
        names = {"frechet": "fid", "kernel": "kid", "score": "inception_score"}
        return {**names, "spatial": "sfid", "monge": "mind"}
    names = {"frechet": "frechet", "kernel": "kernel", "score": "classifier_score"}
    return {**names, "spatial": "spatial_frechet", "monge": "monge"}


def features_of(
    images: ArrayLike | Features, extractor: Extractor, name: str, *, shown: bool = False, **options: Any
) -> Features:
    """Returns `images` if they are `Features`, and otherwise extracts their features.

    Args:
      images: images, or their features.
      extractor: the extractor.
      name: what the images are called.
      shown: whether a bar is shown.
      options: those of `extract`.

    Raises:
      ValueError: if the features are another extractor's.
    """
    if not isinstance(images, Features):
        with progress_bar(len(np.asarray(images)), name, shown) as bar:
            return extract(extractor, images, name=name, progress=bar.update, **options)
    theirs, ours = (
        (made.name, made.weights, *filter(None, [made.protocol])) for made in (images.extractor, extractor)
    )
    if theirs != ours:
        raise ValueError(
            f"{name}: the features are those of {theirs[0]!r} ({', '.join(theirs[1:])}), but the scores are to use "
            f"{ours[0]!r} ({', '.join(ours[1:])})."
        )
    return images


def channel_classes(extractor: Extractor, images: ArrayLike, **options: Any) -> np.ndarray:
    """The classes that a digit classifier assigns to the channels of stacked digits `[N, H, W, C]`: `[N, C]`."""
    given = np.asarray(images)
    if given.ndim != 4:
        raise ValueError(f"Stacked digits are [N, H, W, C], got shape {given.shape}.")
    columns: Sequence[np.ndarray] = [
        classify(extractor, given[..., channel : channel + 1], **options) for channel in range(given.shape[3])
    ]
    return np.stack(columns, axis=1)
