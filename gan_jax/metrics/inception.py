"""Inception-V3 as FID uses it, in Flax, with weights from a file of the user's.

The standard FID network differs from torchvision's: its average pools exclude the padding, its last block uses a
maximum pool, and it has 1,008 classes. The weights are those of the original TensorFlow graph of 2015 as ported to
PyTorch: `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid, which torch-fidelity publishes byte for byte as
`weights-inception-2015-12-05-6726825d.pth`. The file is read as it is, without PyTorch; a `.npz` or `.safetensors`
file of the same arrays too.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.metrics._files import read_arrays
from gan_jax.metrics.features import Extractor
from gan_jax.metrics.resize import protocol_named
from gan_jax.networks import Conv
from gan_jax.types import Array, Tree

SPATIAL_CHANNELS = 7
_BATCH_NORM_EPSILON = 1e-3


class Unit(nn.Module):
    """A convolution with its batch normalisation folded in, and a ReLU."""

    features: int
    kernel: tuple[int, int] = (1, 1)
    strides: int = 1
    padding: tuple[int, int] = (0, 0)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        sides = [(p, p) for p in self.padding]
        return nn.relu(Conv(self.features, self.kernel, self.strides, padding=sides, name="conv")(x))


def _average(x: Array) -> Array:
    """The 3 x 3 mean pool that excludes the padding."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _shrink(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (2, 2))


def _join(*branches: Array) -> Array:
    return jnp.concatenate(branches, axis=-1)


class BlockA(nn.Module):
    """35 x 35: branches of 1, 5 and 3 + 3."""

    pool_features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        five = Unit(48, name="branch5x5_1")(x)
        five = Unit(64, (5, 5), padding=(2, 2), name="branch5x5_2")(five)
        three = Unit(64, name="branch3x3dbl_1")(x)
        three = Unit(96, (3, 3), padding=(1, 1), name="branch3x3dbl_2")(three)
        three = Unit(96, (3, 3), padding=(1, 1), name="branch3x3dbl_3")(three)
        pool = Unit(self.pool_features, name="branch_pool")(_average(x))
        return _join(Unit(64, name="branch1x1")(x), five, three, pool)


class BlockB(nn.Module):
    """35 x 35 to 17 x 17."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        three = Unit(64, name="branch3x3dbl_1")(x)
        three = Unit(96, (3, 3), padding=(1, 1), name="branch3x3dbl_2")(three)
        three = Unit(96, (3, 3), 2, name="branch3x3dbl_3")(three)
        return _join(Unit(384, (3, 3), 2, name="branch3x3")(x), three, _shrink(x))


class BlockC(nn.Module):
    """17 x 17: branches of 1 x 7 and 7 x 1."""

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        across: dict[str, Any] = {"kernel": (1, 7), "padding": (0, 3)}
        down: dict[str, Any] = {"kernel": (7, 1), "padding": (3, 0)}
        seven = Unit(self.width, name="branch7x7_1")(x)
        seven = Unit(self.width, **across, name="branch7x7_2")(seven)
        seven = Unit(192, **down, name="branch7x7_3")(seven)
        twice = Unit(self.width, name="branch7x7dbl_1")(x)
        twice = Unit(self.width, **down, name="branch7x7dbl_2")(twice)
        twice = Unit(self.width, **across, name="branch7x7dbl_3")(twice)
        twice = Unit(self.width, **down, name="branch7x7dbl_4")(twice)
        twice = Unit(192, **across, name="branch7x7dbl_5")(twice)
        pool = Unit(192, name="branch_pool")(_average(x))
        return _join(Unit(192, name="branch1x1")(x), seven, twice, pool)


class BlockD(nn.Module):
    """17 x 17 to 8 x 8."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        three = Unit(192, name="branch3x3_1")(x)
        three = Unit(320, (3, 3), 2, name="branch3x3_2")(three)
        seven = Unit(192, name="branch7x7x3_1")(x)
        seven = Unit(192, (1, 7), padding=(0, 3), name="branch7x7x3_2")(seven)
        seven = Unit(192, (7, 1), padding=(3, 0), name="branch7x7x3_3")(seven)
        seven = Unit(192, (3, 3), 2, name="branch7x7x3_4")(seven)
        return _join(three, seven, _shrink(x))


class BlockE(nn.Module):
    """8 x 8: branches that end in 1 x 3 and 3 x 1; the last block uses a maximum pool."""

    max_pooled: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        across: dict[str, Any] = {"kernel": (1, 3), "padding": (0, 1)}
        down: dict[str, Any] = {"kernel": (3, 1), "padding": (1, 0)}
        three = Unit(384, name="branch3x3_1")(x)
        three = _join(
            Unit(384, **across, name="branch3x3_2a")(three), Unit(384, **down, name="branch3x3_2b")(three)
        )
        twice = Unit(448, name="branch3x3dbl_1")(x)
        twice = Unit(384, (3, 3), padding=(1, 1), name="branch3x3dbl_2")(twice)
        twice = _join(
            Unit(384, **across, name="branch3x3dbl_3a")(twice),
            Unit(384, **down, name="branch3x3dbl_3b")(twice),
        )
        pooled = nn.max_pool(x, (3, 3), (1, 1), "SAME") if self.max_pooled else _average(x)
        pool = Unit(192, name="branch_pool")(pooled)
        return _join(Unit(320, name="branch1x1")(x), three, twice, pool)


class InceptionV3(nn.Module):
    """`[B, H, W, 3]` in [-1, 1], sides of 75 or more; torchvision's names.

    Returns:
      `features`, the last pool, `[B, 2048]`; `logits`, `[B, 1008]`, and `unbiased_logits`, the same without the
      last layer's bias, as in published Inception scores; `spatial`, the first 7 channels of the 1 x 1 branch of
      TensorFlow's `mixed_6`, `[B, h w 7]`, 2,023 of an image of 299 pixels (Nash et al., 2021); `pyramid`, the
      last maps of 73, 35, 17 and 8 pixels of such an image, with 64, 288, 768 and 2,048 channels.
    """

    @nn.compact
    def __call__(self, x: Array) -> dict[str, Any]:
        x = Unit(32, (3, 3), 2, name="Conv2d_1a_3x3")(x)
        x = Unit(32, (3, 3), name="Conv2d_2a_3x3")(x)
        x = _shrink(Unit(64, (3, 3), padding=(1, 1), name="Conv2d_2b_3x3")(x))
        pyramid = [x]
        x = Unit(80, name="Conv2d_3b_1x1")(x)
        x = _shrink(Unit(192, (3, 3), name="Conv2d_4a_3x3")(x))
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = BlockA(pooled, name=name)(x)
        pyramid.append(x)
        x = BlockB(name="Mixed_6a")(x)
        for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            x = BlockC(width, name=name)(x)
            if name == "Mixed_6d":
                # The block's first 192 channels are its 1 x 1 branch.
                spatial = x[..., :SPATIAL_CHANNELS].reshape(x.shape[0], -1)
        pyramid.append(x)
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE(max_pooled=False, name="Mixed_7b")(x)
        x = BlockE(max_pooled=True, name="Mixed_7c")(x)
        pyramid.append(x)
        features = x.mean(axis=(1, 2))
        last = nn.Dense(1008, name="fc")
        logits = last(features)
        unbiased = features @ last.variables["params"]["kernel"]
        return {
            "features": features,
            "logits": logits,
            "unbiased_logits": unbiased,
            "spatial": spatial,
            "pyramid": pyramid,
        }


def inception_extractor(path: str | pathlib.Path, *, protocol: str = "pytorch") -> Extractor:
    """The standard FID extractor with the weights in a file.

    Args:
      path: the `.pth` file of pytorch-fid or torch-fidelity, or a `.npz` or `.safetensors` file of its arrays.
      protocol: how images are resized and scaled, a name of `PROTOCOLS`: `pytorch` (pytorch-fid), `tf` (NVIDIA,
        torch-fidelity, ADM) or `clean` (clean-fid). Their scores are not comparable; the fingerprint records it.

    Returns:
      An `Extractor` with 2,048 features, 1,008 logits without the last layer's bias, as in published Inception
      scores, and 2,023 spatial features; images of one channel are repeated to three.

    Raises:
      ValueError: if the file is no such file, or arrays are missing, unknown or of another shape.
    """
    prepare = protocol_named(protocol)

    def apply(params: Tree, x: Array) -> dict[str, Any]:
        made: Any = InceptionV3().apply({"params": params}, prepare(x))
        return {**made, "logits": made["unbiased_logits"]}

    return Extractor(
        name="Inception-V3 (FID)",
        apply=apply,
        params=to_params(read_arrays(path)),
        resize=prepare.resize,
        protocol=prepare.name,
        inception=True,
        stable=True,
    )


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """The file's arrays: `{name: shape}`, as the PyTorch port has them."""
    params = jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, 75, 75, 3)))["params"]
    shapes: dict[str, tuple[int, ...]] = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        *names, kind = (entry.key for entry in path)
        name = ".".join(names)
        if kind == "bias":
            continue
        if name == "fc":
            shapes |= {"fc.weight": leaf.shape[::-1], "fc.bias": leaf.shape[1:]}
            continue
        height, width, fan_in, fan_out = leaf.shape
        shapes[f"{name}.weight"] = (fan_out, fan_in, height, width)
        norm = name.removesuffix("conv") + "bn"
        shapes |= {f"{norm}.{part}": (fan_out,) for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes


def to_params(arrays: Mapping[str, np.ndarray]) -> Tree:
    """The PyTorch port's arrays as the parameters of `InceptionV3`, batch normalisation folded into convolutions.

    Raises:
      ValueError: if arrays are missing, unknown or of another shape.
    """
    ignored = ("num_batches_tracked",)
    given = {n: a for n, a in arrays.items() if not n.endswith(ignored) and not n.startswith("AuxLogits.")}
    expected = expected_shapes()
    wrong = [n for n in given if n in expected and given[n].shape != expected[n]]
    missing, unknown = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    if missing or unknown or wrong:
        problems = [f"{len(missing)} missing ({', '.join(missing[:3])} ...)"] if missing else []
        problems += [f"{len(unknown)} unknown ({', '.join(unknown[:3])} ...)"] if unknown else []
        problems += [f"{n} has shape {given[n].shape}, not {expected[n]}" for n in wrong[:3]]
        raise ValueError(f"These are not the weights of the FID Inception network: {'; '.join(problems)}.")
    tree: dict[str, Any] = {"fc": {"kernel": given["fc.weight"].T, "bias": given["fc.bias"]}}
    for name in expected:
        if name.endswith(".conv.weight"):
            block = name.removesuffix(".conv.weight")
            *path, last = block.split(".")
            place = tree
            for step in path:
                place = place.setdefault(step, {})
            place[last] = {"conv": _folded(given, block)}
    return jax.tree.map(lambda leaf: np.ascontiguousarray(leaf, dtype=np.float32), tree)


def _folded(arrays: Mapping[str, np.ndarray], block: str) -> dict[str, np.ndarray]:
    """`bn(conv(x)) = scale (conv(x) - mean) + shift` as one convolution with a bias."""
    parts = ("weight", "bias", "running_mean", "running_var")
    norm = {part: arrays[f"{block}.bn.{part}"].astype(np.float64) for part in parts}
    scale = norm["weight"] / np.sqrt(norm["running_var"] + _BATCH_NORM_EPSILON)
    kernel = arrays[f"{block}.conv.weight"].astype(np.float64).transpose(2, 3, 1, 0) * scale
    return {"kernel": kernel, "bias": norm["bias"] - scale * norm["running_mean"]}
