"""How the experiments judge images: the classes that samples fall into, and the distance to real images."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from gan_jax import metrics
from gan_jax.data import decode
from gan_jax.data.subsample import subsample
from gan_jax.evaluation.sample_measures import SampleMeasure
from gan_jax.evaluation.scoring import MOST_REAL, against, extractor_named
from gan_jax.game import Objective
from gan_jax.metrics.classifier import classifier_for
from gan_jax.metrics.features import Extractor, classify, marked_as_given
from gan_jax.training.experiment import ExperimentError

from .batches import labels_by_share, labels_in_turn
from .games import Data, entries_of

CLASSIFIED = {
    "digits": ("digits", (8, 8, 1)),
    "mnist5k": ("mnist5k", (28, 28, 1)),
    "tfds:fashion_mnist": ("fashion_mnist", (28, 28, 1)),
}
"""Data sets that the library has a trained classifier of: its name, and the shape of the images that it knows."""
MOST_COLUMNS = 20
MOST_FITTED = 5_000
"""Real images that another classifier is trained on at most."""


def extractor_of(data: str, shape: Sequence[int]) -> str:
    """The features that images are compared by: a small classifier's for the data sets that have one stored.

    A folder of somebody's that is called like one of them has classes of its own, and of images of another size the
    classifier, where it takes them at all, knows fewer.

    Args:
      data: the name.
      shape: of an image.
    """
    name = data.removeprefix("edges:").removeprefix("masks:")
    known, of = CLASSIFIED.get(name.partition("@")[0] if name.startswith("tfds:") else name, ("", ()))
    return f"classifier:{known}" if known and tuple(shape) == of else ""


def evaluations_of(
    config: Any,
    arrays: Mapping[str, np.ndarray],
    held_out: np.ndarray | None = None,
    given: Collection[str] = (),
) -> dict[str, Callable[[np.ndarray], Any]]:
    """How samples spread over the classes where there are labels, and how far they are from the real images.

    Args:
      config: the configuration.
      arrays: the images that the game is trained on, with labels if they have any.
      held_out: other real images, which samples are compared with where there are any.
      given: the digests of pretrained networks whose features the critics are given.
    """
    if held_out is None:
        real, split = arrays["x"][subsample(len(arrays["x"]), MOST_REAL, arrays.get("y"))], config.data
    else:
        real, split = held_out, f"{config.data}, held out"
    name = extractor_of(config.data, real.shape[1:])
    extractor: str | Extractor = name
    if given:
        extractor = marked_as_given(extractor_named(name, real.shape[1:]), given)
    scores = against(real, extractor=extractor, split=split, seed=config.seed)
    shares = {"classes": class_shares(config.data, arrays, given)} if "y" in arrays else {}
    return {**shares, "scores": scores}


def conditional_fields(
    config: Any,
    arrays: Mapping[str, np.ndarray],
    data: Data,
    objective: Objective,
    held_out: np.ndarray | None = None,
    given: Collection[str] = (),
) -> dict[str, Any]:
    """How images made of latents are evaluated, and for which labels a conditional generator makes them.

    Args:
      config: the configuration.
      arrays: the images that the game is trained on, with labels if they have any.
      data: what they offer.
      objective: of the game.
      held_out, given: as in `evaluations_of`.

    Returns:
      `evaluations`, `condition_batch` and `evaluation_batch`, fields of `Experiment`.
    """
    evaluations = evaluations_of(config, arrays, held_out, given)
    if "y" not in entries_of(objective, data):
        return {"evaluations": evaluations}
    classes = data.classes("A conditional generator")

    def labels(n: int) -> np.ndarray:
        return labels_by_share(arrays["y"], n, seed=config.seed)

    return {
        "evaluations": {**evaluations, "asked": asked_for(config.data, arrays, labels, given)},
        "condition_batch": lambda n: {"y": labels_in_turn(classes, n)},
        "evaluation_batch": lambda n: {"y": labels(n)},
    }


def class_columns(classes: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Any]:
    """How many columns a picture has, options of `image_grid`: one under the name of each class that is asked for.

    Args:
      classes: their names; none, or more than `MOST_COLUMNS`, leaves the ten columns that other pictures have.
      fields: those of `conditional_fields`.
    """
    if "condition_batch" not in fields or not 2 <= len(classes) <= MOST_COLUMNS:
        return {"columns": 10}
    return {"columns": len(classes), "captions": tuple(classes)}


def class_shares(data: str, arrays: Mapping[str, np.ndarray], given: Collection[str] = ()) -> SampleMeasure:
    """How samples spread over the classes, by a classifier that has seen real images only.

    The labels may be any numbers or strings, one an image. The classes are those that the data have, or, where the
    library has a classifier of them, those that it knows. The reverse KL is against the shares of the data, in
    which a class that they lack counts as one image: against equal shares a generator of rare classes alone would
    be nearer than a perfect one.
    """
    verdict, classes = verdicts(data, arrays, given), np.unique(arrays["y"])
    if name := stored_judge(data, arrays["x"].shape[1:], given):
        # These may be a part of the classes that the stored classifier knows.
        classes = np.union1d(classes, np.arange(classifier_for(name).details["classes"]))
    counts = np.bincount(np.searchsorted(classes, arrays["y"]), minlength=len(classes))
    reference = np.maximum(counts, 1)
    return SampleMeasure(
        lambda samples: np.searchsorted(classes, verdict(samples)),
        lambda found: metrics.class_statistics(found, len(classes), reference=reference),
        {"entropy": math.log(len(classes))},
    )


def asked_for(
    data: str,
    arrays: Mapping[str, np.ndarray],
    labels: Callable[[int], np.ndarray],
    given: Collection[str] = (),
) -> SampleMeasure:
    """The share of a conditional game's samples whose class is the one that was asked for.

    Args:
      data: its name.
      arrays: the real images and their labels.
      labels: `n -> [n]`, the labels that n samples are drawn for.
      given: as in `evaluations_of`.
    """
    verdict = verdicts(data, arrays, given)

    return SampleMeasure(
        lambda samples: verdict(samples) == labels(len(samples)),
        lambda right: {"class_accuracy": float(np.mean(right))},
        {"class_accuracy": 1.0},
    )


def stored_judge(data: str, shape: Sequence[int], given: Collection[str] = ()) -> str:
    """The library's classifier of this data set; empty where there is none, or the critics are given its features.

    A generator that such a critic has trained makes what this classifier takes for its classes.
    """
    name = extractor_of(data, shape).removeprefix("classifier:")
    return "" if name and classifier_for(name).weights in given else name


def verdicts(
    data: str, arrays: Mapping[str, np.ndarray], given: Collection[str] = ()
) -> Callable[[np.ndarray], np.ndarray]:
    """`images [N, H, W, C] -> labels [N]`: by `stored_judge`, else by a support vector machine trained on
    `MOST_FITTED` of the data's images, of every class its share.

    What floats have beyond [-1, 1] is cut, as in a file of the images: networks that end without a tanh, as R3GAN's
    and StyleGAN2's do, go beyond.

    Raises:
      ExperimentError: where there is not one label an image.
    """
    x, y = arrays["x"], np.asarray(arrays["y"])
    if y.shape != (len(x),) or y.dtype.kind not in "biufUS":
        raise ExperimentError(
            f"The images of {data!r} are judged by their labels, one number or name an image: y is {y.dtype} "
            f"{y.shape}, for {len(x)} images."
        )
    if name := stored_judge(data, x.shape[1:], given):
        return functools.partial(_classified, name)
    if len(classes := np.unique(y)) == 1:
        return lambda samples: np.repeat(classes, len(samples))

    @functools.cache
    def machine() -> Any:
        from sklearn.svm import SVC

        chosen = subsample(len(x), MOST_FITTED, y)
        return SVC().fit(_flat(x[chosen]), y[chosen])

    return lambda samples: machine().predict(_flat(samples))


def _classified(name: str, images: np.ndarray) -> np.ndarray:
    return classify(classifier_for(name), images if images.dtype == np.uint8 else np.clip(images, -1, 1))


def _flat(images: np.ndarray) -> np.ndarray:
    images = np.asarray(decode(jnp.asarray(images)) if images.dtype == np.uint8 else np.clip(images, -1, 1))
    return images.reshape(len(images), -1)
