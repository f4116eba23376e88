"""Small classifiers trained by this package: features and class counts of small images without Inception.

    python -m gan_jax.metrics.fit mnist5k --out=mnist5k.npz --steps=4000

trains a classifier on labelled data and stores it. Those for `digits`, `mnist5k` and `fashion_mnist`, made by this
command, are part of the package, so that scores on these data have the same fingerprint everywhere.
"""

from __future__ import annotations

import functools
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from gan_jax.data import load
from gan_jax.data.arrays import decode
from gan_jax.files import reason, replace_file
from gan_jax.metrics._files import read_arrays
from gan_jax.metrics.features import Extractor, check_images
from gan_jax.networks.conv_layers import Conv
from gan_jax.types import Array, Key, Tree

WEIGHTS = pathlib.Path(__file__).resolve().parent / "weights"
_BATCH = 128


class SmallClassifier(nn.Module):
    """Three convolutions down to about 4 x 4, a hidden layer that is the features, and logits.

    Their maps `[B, H_l, W_l, 16 to 64]` are the `pyramid`.
    """

    classes: int
    features: int = 64

    @nn.compact
    def __call__(self, x: Array) -> dict[str, Any]:
        pyramid = []
        for width in (16, 32, 64):
            halve = min(x.shape[1:3]) >= 7
            x = nn.relu(Conv(width, (3, 3), strides=2 if halve else 1)(x))
            pyramid.append(x)
        features = nn.relu(nn.Dense(self.features)(x.reshape(x.shape[0], -1)))
        return {"features": features, "logits": nn.Dense(self.classes)(features), "pyramid": pyramid}


def train_classifier(
    images: ArrayLike,
    labels: ArrayLike,
    *,
    name: str,
    steps: int = 1500,
    features: int = 64,
    held_out: float = 0.2,
    seed: int = 0,
) -> Extractor:
    """Trains a small classifier, which takes well under a minute on two cores.

    Args:
      images: `[N, H, W, C]`, uint8 or floats in [-1, 1].
      labels: `[N]`, integers from 0.
      name: the extractor's name in fingerprints.
      steps: Adam steps on batches of 128 images, which are shifted cyclically by up to a twelfth of their side, at
        least a pixel.
      features: width of the hidden layer.
      held_out: the fraction of the images kept for measuring the accuracy.
      seed: the seed of the split, the weights and the order.

    Returns:
      An `Extractor` with features and logits; `details["held_out_accuracy"]`.

    Raises:
      ValueError: for bad images or labels, or too few of them.
    """
    x, y = check_images(images, "images"), np.asarray(labels)
    if y.shape != (len(x),) or y.dtype.kind not in "iu" or y.min() < 0:
        raise ValueError(f"Labels must be integers [N] from 0, N = {len(x)}; got {y.dtype} {y.shape}.")
    order = np.random.default_rng(seed).permutation(len(x))
    cut = round(len(x) * held_out)
    if not 1 <= cut <= len(x) - _BATCH:
        raise ValueError(
            f"Training needs at least {_BATCH} images in addition to those held out, got {len(x)} in total."
        )
    test, train = order[:cut], order[cut:]
    module = SmallClassifier(int(y.max()) + 1, features)
    floats = jnp.asarray(decode(jnp.asarray(x)) if x.dtype == np.uint8 else x)
    targets = jnp.asarray(y, jnp.int32)
    params = _fit(module, floats[train], targets[train], jax.random.key(seed), steps)
    # Rounded to half precision, as they are stored, so that stored and trained classifiers agree.
    params = jax.tree.map(lambda w: np.asarray(w, np.float16), params)
    accuracy = _accuracy(module, params, floats[test], targets[test])
    details = {"classes": module.classes, "held_out_accuracy": accuracy, "images": len(train)}
    return _extractor(name, module, params, details)


def _fit(module: SmallClassifier, x: Array, y: Array, key: Key, steps: int) -> Tree:
    init, order = jax.random.split(key)
    params = jax.jit(module.init)(init, x[:1])["params"]
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    reach = max(1, x.shape[1] // 12)

    def loss(params: Tree, images: Array, labels: Array) -> Array:
        logits = _run(module, params, images)["logits"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    # A loop on the host: on a CPU, gradients of convolutions are many times slower inside a scan.
    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Tree, state: Tree, x: Array, y: Array, key: Key) -> tuple[Tree, Tree]:
        choose, move = jax.random.split(key)
        rows = jax.random.randint(choose, (_BATCH,), 0, len(x))
        images = jnp.roll(x[rows], jax.random.randint(move, (2,), -reach, reach + 1), (1, 2))
        updates, state = optimizer.update(jax.grad(loss)(params, images, y[rows]), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for draw in jax.random.split(order, steps):
        params, state = step(params, state, x, y, draw)
    return params


def _run(module: SmallClassifier, params: Tree, x: Array) -> dict[str, Any]:
    made: Any = module.apply({"params": jax.tree.map(lambda w: w.astype(jnp.float32), params)}, x)
    return made


def _accuracy(module: SmallClassifier, params: Tree, x: Array, y: Array) -> float:
    logits = jax.jit(functools.partial(_run, module))(params, x)["logits"]
    return float((logits.argmax(axis=1) == y).mean())


def _extractor(name: str, module: SmallClassifier, params: Tree, details: Mapping[str, Any]) -> Extractor:
    run = functools.partial(_run, module)
    return Extractor(name=name, apply=run, params=params, details=details, stable=True)


def save_classifier(extractor: Extractor, path: str | pathlib.Path) -> pathlib.Path:
    """Stores a classifier of `train_classifier` as a `.npz` of arrays and one line of JSON.

    Raises:
      ValueError: for another extractor.
      OSError: if the file cannot be written; an existing one is then as it was.
    """
    if "classes" not in extractor.details:
        raise ValueError(f"{extractor.name!r} is not a classifier of train_classifier.")
    file = pathlib.Path(path).expanduser().with_suffix(".npz")
    file.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps({"name": extractor.name, **extractor.details})
    arrays = flax.traverse_util.flatten_dict(extractor.params, sep=".")
    packed = io.BytesIO()
    np.savez_compressed(packed, about=np.frombuffer(about.encode(), np.uint8), **arrays)
    try:
        replace_file(file, packed.getvalue())
    except OSError as error:
        raise OSError(f"The classifier {str(path)!r} cannot be written: {reason(error)}.") from error
    return file


def load_classifier(path: str | pathlib.Path) -> Extractor:
    """A classifier that `save_classifier` stored.

    Raises:
      ValueError: if the file is missing, damaged or another.
    """
    arrays = read_arrays(path)
    try:
        about = json.loads(arrays.pop("about").tobytes())
        name, classes = about.pop("name"), about["classes"]
        params = flax.traverse_util.unflatten_dict(arrays, sep=".")
        width = params["Dense_0"]["bias"].shape[0]
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{str(path)!r} holds no classifier of save_classifier: {error}.") from error
    return _extractor(name, SmallClassifier(classes, width), params, about)


def classifier_for(data: str) -> Extractor:
    """The classifier for a data set: stored for `digits`, `mnist5k` and `fashion_mnist` (also as
    `tfds:fashion_mnist`), otherwise trained by this call.

    Args:
      data: the name of a labelled data set, see `gan_jax.data.load`.

    Raises:
      ValueError: if the data have no labels.

    >>> classifier_for("digits").details["held_out_accuracy"] > 0.97
    True
    """
    stored = WEIGHTS / f"{data.removeprefix('tfds:')}.npz"
    if stored.parent == WEIGHTS and stored.is_file():
        return load_classifier(stored)
    arrays = load(data)
    if "y" not in arrays:
        raise ValueError(
            f"A classifier needs labels `y` for training, but {data!r} has only {sorted(arrays)}."
        )
    return train_classifier(arrays["x"], arrays["y"], name=f"classifier of {data}")
