"""Extractors by what a command line names: the one seam between a name and a network.

| name | features | file |
| --- | --- | --- |
| `pixels` | the pixels | |
| `coordinates` | those of points | |
| `classifier:DATA` | a small classifier's hidden layer | stored for three data sets, otherwise trained |
| `inception:FILE` | the standard FID network's pool, 2,048 | pytorch-fid's or torch-fidelity's `.pth` |
| `vgg16:FILE` | VGG16's second hidden layer, 4,096 | torchvision's `.pth` |
| `clip:FILE` | CLIP's projected image features, 512 | `transformers`' `.safetensors`, or OpenAI's names |
| `dinov2:FILE` | DINOv2's class token, 1,024 | `transformers`' `.safetensors`, or the authors' `.pth` |
| `onnx:FILE` | a network's first output | `.onnx` |
| `function:MODULE.NAME` | whatever the function makes of images | |

Options follow after commas: `dinov2:FILE,resize=bicubic`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import Any

from gan_jax.metrics.classifier import classifier_for
from gan_jax.metrics.clip import clip_extractor
from gan_jax.metrics.dinov2 import dinov2_extractor
from gan_jax.metrics.features import Extractor, from_callable, pixels
from gan_jax.metrics.inception import inception_extractor
from gan_jax.metrics.onnx import onnx_extractor
from gan_jax.metrics.vgg16 import vgg16_extractor


def coordinates() -> Extractor:
    """An extractor that returns points `[N, ...]`, flattened."""
    return from_callable("coordinates", lambda x: x.reshape(x.shape[0], -1))


def function_extractor(name: str) -> Extractor:
    """The extractor of a function `images [B, H, W, C] in [-1, 1] -> [B, D]` of an importable module.

    Args:
      name: `package.module.function`.

    Raises:
      ValueError: if there is no such module or function.

    >>> function_extractor("jax.numpy.ravel").name
    'jax.numpy.ravel'
    """
    module, _, function = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"There is no function {name!r}: {error}. Expected package.module.function."
        ) from error
    if not callable(found):
        raise ValueError(f"{name!r} is no function.")
    return from_callable(name, found)


EXTRACTORS: dict[str, Callable[..., Extractor]] = {
    "pixels": pixels,
    "coordinates": coordinates,
    "classifier": classifier_for,
    "inception": inception_extractor,
    "vgg16": vgg16_extractor,
    "clip": clip_extractor,
    "dinov2": dinov2_extractor,
    "onnx": onnx_extractor,
    "function": function_extractor,
}
"""The kinds of extractors; those but `pixels` and `coordinates` take an argument after a colon."""
EXAMPLES = (
    "pixels, classifier:DATA (digits, mnist5k, ...), inception:FILE, vgg16:FILE, clip:FILE, dinov2:FILE, "
    "onnx:FILE, function:MODULE.NAME"
)


def extractor_named(name: str, **options: Any) -> Extractor:
    """The extractor that a name stands for.

    Args:
      name: see the module.
      options: further options of the extractor, such as `resize`; those in the name win.

    Raises:
      ValueError: if there is no such kind, its argument is missing or not taken, it does not take an option, or
        what it names cannot be read.

    >>> extractor_named("classifier:digits").name, extractor_named("pixels").name
    ('classifier of digits', 'pixels')
    """
    head, *given = name.split(",")
    while given and "=" not in given[0]:  # a comma in the file's name
        head = f"{head},{given.pop(0)}"
    kind, _, argument = head.partition(":")
    if kind not in EXTRACTORS:
        near = difflib.get_close_matches(kind, EXTRACTORS, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"Unknown extractor {kind!r}{hint}: expected one of {EXAMPLES}.")
    if bool(argument) == (kind in ("pixels", "coordinates")):
        raise ValueError(f"The extractor {name!r} is not understood: expected one of {EXAMPLES}.")
    chosen = {**options, **dict(option.split("=", 1) for option in given if "=" in option)}
    try:
        return EXTRACTORS[kind](*filter(None, [argument]), **chosen)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ValueError(f"The extractor {kind!r} does not take the options {sorted(chosen)}.") from error
