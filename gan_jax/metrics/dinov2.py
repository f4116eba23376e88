"""DINOv2 (Oquab et al., 2023) in Flax, with weights from a file of the user's.

The file is `model.safetensors` of `facebook/dinov2-large` as the `transformers` library names its arrays, or the
authors' `dinov2_vitl14_pretrain.pth`, whose names timm shares. Small, base and large have the same layers;
those with register tokens and the giant, whose perceptron is gated, are refused.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from gan_jax.metrics._files import read_arrays
from gan_jax.metrics._torch_names import Shape, check_arrays, float32, layer_norm, linear
from gan_jax.metrics.features import Extractor
from gan_jax.metrics.vision_inputs import IMAGENET, VisionInput
from gan_jax.metrics.vision_transformer import HEAD_WIDTH, VisionTransformer, exact_gelu
from gan_jax.types import Array, Tree

SIZE = 224
POSITIONS = {"authors": 0.1, "transformers": 0.0}
"""How the positions of 518 pixels are interpolated: the authors' code adds 0.1 to the grid's side, `transformers`
does not. Published Frechet distances are of the authors' code."""
_EMBEDDINGS = "embeddings"


def dinov2_extractor(
    path: str | pathlib.Path, *, resize: str = "pillow", positions: str = "authors"
) -> Extractor:
    """The extractor of DINOv2's class token, 1,024 features of ViT-L/14, as FD-DINOv2 takes them.

    Args:
      path: a `.safetensors`, `.npz` or `.pth` file, see the module.
      resize: a name of `vision_inputs.RULES`: `"pillow"` as dgm-eval, `"bicubic"` as EDM2, `"tf"` as
        torch-fidelity.
      positions: a name of `POSITIONS`.

    Returns:
      An `Extractor`; it is differentiable unless `resize` is `"pillow"`.

    Raises:
      ValueError: if the file is no such file, or arrays are missing or of another shape.
    """
    if positions not in POSITIONS:
        raise ValueError(f"Unknown positions {positions!r}: one of {', '.join(POSITIONS)}.")
    module, params = dinov2_network(read_arrays(path), offset=POSITIONS[positions])
    prepare = VisionInput(resize, SIZE, IMAGENET)

    def apply(params: Tree, images: Array) -> dict[str, Array]:
        made: Any = module.apply({"params": params}, prepare(images))
        return made

    return Extractor(
        name=f"DINOv2 ViT {module.width}/{module.patch}",
        apply=apply,
        params=params,
        resize=f"{prepare.resize}, positions as {positions}",
        protocol=f"{resize}, {positions}",
        stable=True,
    )


def dinov2_network(
    arrays: Mapping[str, np.ndarray], *, offset: float = 0.1
) -> tuple[VisionTransformer, Tree]:
    """The network that arrays belong to, its sizes read off their shapes, and its parameters.

    Args:
      arrays: by the names of `transformers` or of the authors.
      offset: see `VisionTransformer`.

    Raises:
      ValueError: if arrays are missing or of another shape, or there are register tokens.
    """
    if any("register_tokens" in name for name in arrays):
        raise ValueError(
            "These weights have register tokens; DINOv2 without them is the published extractor."
        )
    arrays = {_published(name): array for name, array in arrays.items()}
    if "patch_embed.proj.weight" in arrays:
        arrays = _from_authors(arrays)
    layers = 1 + max(
        (int(name.split(".")[2]) for name in arrays if name.startswith("encoder.layer.")), default=0
    )
    kernel = arrays.get(f"{_EMBEDDINGS}.patch_embeddings.projection.weight", np.zeros((1, 3, 1, 1)))
    width, _, patch, _ = kernel.shape if kernel.ndim == 4 else (1, 3, 1, 1)
    positions = arrays.get(f"{_EMBEDDINGS}.position_embeddings", np.zeros((1, 2, 1)))
    grid = round(max(positions.shape[1] - 1, 0) ** 0.5) if positions.ndim == 3 else 1
    check_arrays(arrays, _expected(width, patch, grid, layers), "DINOv2")
    if width % HEAD_WIDTH:
        raise ValueError(f"DINOv2 has heads of {HEAD_WIDTH}, but these tokens are {width} wide.")
    module = VisionTransformer(
        patch=patch,
        width=width,
        layers=layers,
        hidden=len(arrays["encoder.layer.0.mlp.fc1.bias"]),
        activation=exact_gelu,
        epsilon=1e-6,
        grid=grid,
        layer_scale=True,
        offset=offset,
    )
    params: dict[str, Any] = {
        "embedding": linear(arrays, f"{_EMBEDDINGS}.patch_embeddings.projection"),
        "class": float32(arrays[f"{_EMBEDDINGS}.cls_token"].reshape(-1)),
        "positions": float32(positions[0]),
        "norm": layer_norm(arrays, "layernorm"),
    }
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        attention = {
            part: linear(arrays, f"{name}.attention.attention.{part}") for part in ("query", "key", "value")
        }
        params[f"layer_{layer}"] = {
            "attention": {**attention, "out": linear(arrays, f"{name}.attention.output.dense")},
            "norm1": layer_norm(arrays, f"{name}.norm1"),
            "norm2": layer_norm(arrays, f"{name}.norm2"),
            "fc1": linear(arrays, f"{name}.mlp.fc1"),
            "fc2": linear(arrays, f"{name}.mlp.fc2"),
            "scale1": float32(arrays[f"{name}.layer_scale1.lambda1"]),
            "scale2": float32(arrays[f"{name}.layer_scale2.lambda1"]),
        }
    return module, params


_PRESENT = {
    ".attention.q_proj.": ".attention.attention.query.",
    ".attention.k_proj.": ".attention.attention.key.",
    ".attention.v_proj.": ".attention.attention.value.",
    ".attention.o_proj.": ".attention.output.dense.",
}


def _published(name: str) -> str:
    """The name in published files, of one in the memory of `transformers` 5 or below a classifier."""
    for present, published in _PRESENT.items():
        name = name.replace(present, published)
    return name.removeprefix("dinov2.")


def _expected(width: int, patch: int, grid: int, layers: int) -> dict[str, Shape]:
    vector: Shape = (width,)
    shapes: dict[str, Shape] = {
        f"{_EMBEDDINGS}.cls_token": (1, 1, width),
        f"{_EMBEDDINGS}.patch_embeddings.projection.weight": (width, 3, patch, patch),
        f"{_EMBEDDINGS}.patch_embeddings.projection.bias": vector,
        f"{_EMBEDDINGS}.position_embeddings": (1, 1 + grid**2, width),
        "layernorm.weight": vector,
        "layernorm.bias": vector,
    }
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            shapes |= {
                f"{name}.attention.{part}.weight": (width, width),
                f"{name}.attention.{part}.bias": vector,
            }
        for norm in ("norm1", "norm2"):
            shapes |= {f"{name}.{norm}.weight": vector, f"{name}.{norm}.bias": vector}
        shapes |= {f"{name}.mlp.fc1.weight": (None, width), f"{name}.mlp.fc1.bias": (None,)}
        shapes |= {f"{name}.mlp.fc2.weight": (width, None), f"{name}.mlp.fc2.bias": vector}
        shapes |= {f"{name}.layer_scale{place}.lambda1": vector for place in (1, 2)}
    return shapes


_AUTHORS = {
    "patch_embed.proj": f"{_EMBEDDINGS}.patch_embeddings.projection",
    "pos_embed": f"{_EMBEDDINGS}.position_embeddings",
    "cls_token": f"{_EMBEDDINGS}.cls_token",
    "blocks.": "encoder.layer.",
    ".attn.proj.": ".attention.output.dense.",
    ".ls1.gamma": ".layer_scale1.lambda1",
    ".ls2.gamma": ".layer_scale2.lambda1",
}


def _from_authors(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of the authors' code and of timm under the names of `transformers`."""
    renamed: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        given = name
        for theirs, ours in _AUTHORS.items():
            name = name.replace(theirs, ours)
        if ".attn.qkv." in name:
            if len(array) % 3:
                raise ValueError(
                    f"{given} has {len(array)} rows, which are not those of query, key and value."
                )
            for part, rows in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                renamed[name.replace(".attn.qkv.", f".attention.attention.{part}.")] = rows
        else:
            renamed[name.replace("norm.", "layernorm.") if name.startswith("norm.") else name] = array
    return renamed
