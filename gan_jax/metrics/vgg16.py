"""VGG16 (Simonyan and Zisserman, 2015) in Flax, with torchvision's weights from a file, and LPIPS on it.

The file is torchvision's `vgg16-397923af.pth` or the same arrays as `.npz` or `.safetensors`. Its second hidden
layer (`fc2`, 4,096 features after the ReLU) is what precision and recall were defined on (Kynkaanniemi et al.,
2019), and its pyramid of activations is what LPIPS measures in (Zhang et al., 2018).
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.metrics._files import read_arrays
from gan_jax.metrics._torch_names import check_arrays, linear
from gan_jax.metrics.features import Extractor
from gan_jax.metrics.path_length import LPIPS_NAME
from gan_jax.metrics.vision_inputs import IMAGENET, VisionInput
from gan_jax.networks import Conv
from gan_jax.precision import at_highest_precision
from gan_jax.types import Array, Tree

SIZE = 224
STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""The places of the convolutions in torchvision's `features`, by stage; a maximum pool follows each stage."""
WIDTHS = (64, 128, 256, 512, 512)
_LPIPS_SHIFT = (-0.030, -0.088, -0.188)
_LPIPS_SCALE = (0.458, 0.448, 0.450)


class VGG16(nn.Module):
    """Normalised images `[B, H, W, 3]` to activations; torchvision's configuration D.

    Attributes:
      widths: the channels of the five stages.
      hidden: the width of the two hidden layers.
      pyramid_only: leave out the hidden layers, so that any size of 16 or more is taken.

    Returns:
      `pyramid`, the five last activations before a pool, `[B, H / 2^i, W / 2^i, widths[i]]`; and, of images of 224,
      `features`, the second hidden layer after its ReLU, `[B, hidden]`.
    """

    widths: tuple[int, ...] = WIDTHS
    hidden: int = 4096
    pyramid_only: bool = False

    @nn.compact
    def __call__(self, x: Array) -> dict[str, Any]:
        pyramid = []
        for places, width in zip(STAGES, self.widths, strict=True):
            for place in places:
                x = nn.relu(Conv(width, (3, 3), padding="SAME", name=f"features_{place}")(x))
            pyramid.append(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
        if self.pyramid_only:
            return {"pyramid": pyramid}
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)  # flattened as PyTorch does
        for place in (0, 3):
            x = nn.relu(nn.Dense(self.hidden, name=f"classifier_{place}")(x))
        return {"pyramid": pyramid, "features": x}


def vgg16_extractor(path: str | pathlib.Path, *, resize: str = "tf") -> Extractor:
    """The extractor of VGG16's second hidden layer, 4,096 features.

    Args:
      path: torchvision's `vgg16-397923af.pth`, or its arrays as `.npz` or `.safetensors`.
      resize: a name of `vision_inputs.RULES`: by default TensorFlow 1's bilinear, as torch-fidelity.

    Returns:
      An `Extractor`; it is differentiable unless `resize` is `"pillow"`.

    Raises:
      ValueError: if the file is no such file, or arrays are missing or of another shape.
    """
    params = vgg16_params(read_arrays(path))
    prepare = VisionInput(resize, SIZE, IMAGENET)

    def apply(params: Tree, images: Array) -> dict[str, Array]:
        x = prepare(images)
        if x.shape[1:3] != (SIZE, SIZE):
            raise ValueError(f"VGG16's hidden layers take images of {SIZE} x {SIZE}, got {x.shape[1:3]}.")
        made: Any = VGG16(*_sizes(params)).apply({"params": params}, x)
        return made

    return Extractor(
        name="VGG16 fc2", apply=apply, params=params, resize=prepare.resize, protocol=resize, stable=True
    )


def vgg16_params(arrays: Mapping[str, np.ndarray], *, pyramid_only: bool = False) -> Tree:
    """torchvision's arrays as the parameters of `VGG16`; the last layer, of classes, is left out.

    Raises:
      ValueError: if arrays are missing or of another shape.
    """
    expected: dict[str, tuple[int | None, ...]] = {}
    for places in STAGES:
        for place in places:
            expected |= {f"features.{place}.weight": (None, None, 3, 3), f"features.{place}.bias": (None,)}
    for place in () if pyramid_only else (0, 3):
        expected |= {f"classifier.{place}.weight": (None, None), f"classifier.{place}.bias": (None,)}
    check_arrays(arrays, expected, "VGG16 with torchvision's names")
    names = [name.removesuffix(".weight") for name in expected if name.endswith(".weight")]
    return {name.replace(".", "_"): linear(arrays, name) for name in names}


def _sizes(params: Tree) -> tuple[tuple[int, ...], int, bool]:
    """The attributes of the module that has these parameters."""
    widths = tuple(params[f"features_{places[-1]}"]["bias"].shape[0] for places in STAGES)
    if "classifier_3" not in params:
        return widths, 0, True
    return widths, params["classifier_3"]["bias"].shape[0], False


def lpips_distance(vgg16: str | pathlib.Path, heads: str | pathlib.Path) -> Callable[[Array, Array], Array]:
    """The learned perceptual distance LPIPS 0.1 on VGG16 (Zhang et al., 2018).

        d(x, y) = sum_l  mean_hw  w_l . (u_l(x) - u_l(y))^2

    with `u_l` the activations of stage l, of unit length over the channels, and learned weights `w_l >= 0`.

    A call takes time O(B H W) for VGG16's convolutions, and memory O(B H W) for its activations.

    Args:
      vgg16: as in `vgg16_extractor`.
      heads: the weights `w_l`, `lpips/weights/v0.1/vgg.pth` of the authors' package or torch-fidelity's
        `weights-vgg16-lpips.pth`; as `.npz` or `.safetensors` too.

    Returns:
      A differentiable function of two batches of images `[B, H, W, C]` in [-1, 1], of 16 pixels or more, to `[B]`.

    Raises:
      ValueError: if a file is no such file, or arrays are missing or of another shape.

    References:
      Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018 (arXiv:1801.03924),
      equation 1.
    """
    params = jax.tree.map(jnp.asarray, vgg16_params(read_arrays(vgg16), pyramid_only=True))
    widths = _sizes(params)[0]
    arrays = read_arrays(heads)
    names = [f"lin{stage}.model.1.weight" for stage in range(len(STAGES))]
    check_arrays(
        arrays,
        {name: (1, width, 1, 1) for name, width in zip(names, widths, strict=True)},
        "LPIPS's heads on VGG16",
    )
    weights = [jnp.asarray(arrays[name].reshape(-1), jnp.float32) for name in names]
    module = VGG16(widths, 0, True)

    @at_highest_precision
    def distance(x: Array, y: Array) -> Array:
        # One pass for both, so that equal images have equal activations.
        images = jnp.concatenate([x, y])
        if images.shape[3] == 1:
            images = jnp.repeat(images, 3, axis=3)
        normed = (images - np.array(_LPIPS_SHIFT)) / np.array(_LPIPS_SCALE)
        made: Any = module.apply({"params": params}, normed)
        total = jnp.zeros(len(x))
        for stage, weight in zip(made["pyramid"], weights, strict=True):
            u, v = jnp.split(unit_length(stage), 2)
            total += jnp.mean((u - v) ** 2 @ weight, axis=(1, 2))
        return total

    distance.__name__ = LPIPS_NAME
    return distance


def unit_length(x: Array) -> Array:
    """Activations `[..., C]` divided by their length over the channels, `x / (|x| + 1e-10)`.

    At 0 the gradient is that of `x / 1e-10`, finite.

    >>> unit_length(jnp.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    squared = jnp.sum(x**2, axis=-1, keepdims=True)
    positive = squared > 0
    length = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
    return x / (length + 1e-10)
