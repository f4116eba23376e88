"""CLIP's image tower (Radford et al., 2021) in Flax, with weights from a file of the user's.

The file is `model.safetensors` of `openai/clip-vit-base-patch32` as the `transformers` library names its arrays, or
a file of tensors with the names of OpenAI's own code (`visual.conv1.weight`, ...). The text tower is ignored.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from gan_jax.metrics._files import read_arrays
from gan_jax.metrics._torch_names import Shape, check_arrays, float32, layer_norm, linear
from gan_jax.metrics.features import Extractor
from gan_jax.metrics.vision_inputs import CLIP, VisionInput
from gan_jax.metrics.vision_transformer import HEAD_WIDTH, VisionTransformer, quick_gelu
from gan_jax.types import Array, Tree

_EMBEDDINGS = "vision_model.embeddings"
_LAYERS = "vision_model.encoder.layers"


def clip_extractor(path: str | pathlib.Path, *, resize: str = "pillow") -> Extractor:
    """The extractor of CLIP's projected image features, 512 of ViT-B/32, as clean-fid's CLIP-FD takes them.

    Args:
      path: a `.safetensors`, `.npz` or `.pth` file, see the module.
      resize: a name of `vision_inputs.RULES`; `"pillow"`, as clean-fid.

    Returns:
      An `Extractor`; images that are not square are cropped in the centre. It is differentiable unless `resize` is
      `"pillow"`. The features are not scaled to unit length.

    Raises:
      ValueError: if the file is no such file, or arrays are missing or of another shape.
    """
    module, params = clip_network(read_arrays(path))
    prepare = VisionInput(resize, module.patch * module.grid, CLIP, cropped=True)

    def apply(params: Tree, images: Array) -> dict[str, Array]:
        made: Any = module.apply({"params": params}, prepare(images))
        return made

    return Extractor(
        name=f"CLIP ViT {module.width}/{module.patch}",
        apply=apply,
        params=params,
        resize=prepare.resize,
        protocol=resize,
        stable=True,
    )


def clip_network(arrays: Mapping[str, np.ndarray]) -> tuple[VisionTransformer, Tree]:
    """The image tower that arrays belong to, its sizes read off their shapes, and its parameters.

    Raises:
      ValueError: if arrays are missing or of another shape.
    """
    if "visual.conv1.weight" in arrays:
        arrays = _from_openai(arrays)
    layers = 1 + max(
        (int(name.split(".")[3]) for name in arrays if name.startswith(f"{_LAYERS}.")), default=0
    )
    kernel = arrays.get(f"{_EMBEDDINGS}.patch_embedding.weight", np.zeros((1, 3, 1, 1)))
    width, _, patch, _ = kernel.shape if kernel.ndim == 4 else (1, 3, 1, 1)
    positions = arrays.get(f"{_EMBEDDINGS}.position_embedding.weight", np.zeros((2, 1)))
    grid = round(max(len(positions) - 1, 0) ** 0.5)
    check_arrays(arrays, _expected(width, patch, grid, layers), "CLIP's image tower")
    if width % HEAD_WIDTH:
        raise ValueError(f"CLIP's image tower has heads of {HEAD_WIDTH}, but these tokens are {width} wide.")
    module = VisionTransformer(
        patch=patch,
        width=width,
        layers=layers,
        hidden=len(arrays[f"{_LAYERS}.0.mlp.fc1.bias"]),
        activation=quick_gelu,
        epsilon=1e-5,
        grid=grid,
        clip=True,
        projection=len(arrays["visual_projection.weight"]),
    )
    params: dict[str, Any] = {
        "embedding": linear(arrays, f"{_EMBEDDINGS}.patch_embedding"),
        "class": float32(arrays[f"{_EMBEDDINGS}.class_embedding"]),
        "positions": float32(positions),
        "norm0": layer_norm(arrays, "vision_model.pre_layrnorm"),
        "norm": layer_norm(arrays, "vision_model.post_layernorm"),
        "projection": linear(arrays, "visual_projection"),
    }
    for layer in range(layers):
        name = f"{_LAYERS}.{layer}"
        parts = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
        params[f"layer_{layer}"] = {
            "attention": {
                part: linear(arrays, f"{name}.self_attn.{theirs}") for part, theirs in parts.items()
            },
            "norm1": layer_norm(arrays, f"{name}.layer_norm1"),
            "norm2": layer_norm(arrays, f"{name}.layer_norm2"),
            "fc1": linear(arrays, f"{name}.mlp.fc1"),
            "fc2": linear(arrays, f"{name}.mlp.fc2"),
        }
    return module, params


def _expected(width: int, patch: int, grid: int, layers: int) -> dict[str, Shape]:
    vector: Shape = (width,)
    shapes: dict[str, Shape] = {
        f"{_EMBEDDINGS}.class_embedding": vector,
        f"{_EMBEDDINGS}.patch_embedding.weight": (width, 3, patch, patch),
        f"{_EMBEDDINGS}.position_embedding.weight": (1 + grid**2, width),
        "visual_projection.weight": (None, width),
    }
    for norm in ("pre_layrnorm", "post_layernorm"):
        shapes |= {f"vision_model.{norm}.weight": vector, f"vision_model.{norm}.bias": vector}
    for layer in range(layers):
        name = f"{_LAYERS}.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= {
                f"{name}.self_attn.{part}.weight": (width, width),
                f"{name}.self_attn.{part}.bias": vector,
            }
        for norm in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{name}.{norm}.weight": vector, f"{name}.{norm}.bias": vector}
        shapes |= {f"{name}.mlp.fc1.weight": (None, width), f"{name}.mlp.fc1.bias": (None,)}
        shapes |= {f"{name}.mlp.fc2.weight": (width, None), f"{name}.mlp.fc2.bias": vector}
    return shapes


_OPENAI = {
    "visual.class_embedding": f"{_EMBEDDINGS}.class_embedding",
    "visual.conv1": f"{_EMBEDDINGS}.patch_embedding",
    "visual.positional_embedding": f"{_EMBEDDINGS}.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "visual.transformer.resblocks": _LAYERS,
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".attn.out_proj.": ".self_attn.out_proj.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}


def _from_openai(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of OpenAI's code under the names of `transformers`."""
    renamed: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if not name.startswith("visual."):
            continue
        if name == "visual.proj":
            renamed["visual_projection.weight"] = array.T
            continue
        given = name
        for theirs, ours in _OPENAI.items():
            name = name.replace(theirs, ours)
        if ".attn.in_proj_" in name:
            layer, _, kind = name.partition(".attn.in_proj_")
            if len(array) % 3:
                raise ValueError(
                    f"{given} has {len(array)} rows, which are not those of query, key and value."
                )
            for part, rows in zip("qkv", np.split(array, 3), strict=True):
                renamed[f"{layer}.self_attn.{part}_proj.{kind}"] = rows
        else:
            renamed[name] = array
    return renamed
