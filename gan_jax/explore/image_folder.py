"""The page of a generator of images as a static folder, which any file server serves.

index.html, *.js, style.css     the page
explore.json                    what it is made of
latents_0.f32, ...              the latents of the first seeds, a file for each choice of truncation
generator.onnx                  z (and labels) to samples; with a mapping network mapping.onnx and synthesis.onnx
curves.json                     the curves of the run
ort*                            onnxruntime-web
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from gan_jax.explore.image_session import described
from gan_jax.explore.latent_space import LatentSpace
from gan_jax.explore.page_files import page_files
from gan_jax.keys import named_key
from gan_jax.models.model import Model
from gan_jax.models.onnx_export import to_onnx
from gan_jax.models.programs import Program
from gan_jax.runs.strict_json import dumps

SEEDS = 100
LEFT_OUT = "Nearest training images are in the served page: a folder for others has no training data."


def image_folder(
    name: str, model: Model, curves: Mapping[str, Any], runtime: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The files of the folder by name.

    Args:
      name: what the page calls the run.
      model: the generator, built by its experiment.
      curves: all of `curves.records_after`.
      runtime: the files of `onnx_web`.

    Raises:
      OnnxError: if the generator has no form in ONNX.
    """
    space = LatentSpace.of(model)
    description = {
        **described(name, model, space),
        "served": False,
        "seeds": SEEDS,
        "nearest": [],
        "note": LEFT_OUT,
    }
    files = {**page_files(), **runtime, **_programs(model, space)}
    for choice, truncation in enumerate(description["truncations"]):
        files[f"latents_{choice}.f32"] = np.ascontiguousarray(
            space.seeds(range(SEEDS), truncation), "<f4"
        ).tobytes()
    files["curves.json"] = dumps(curves, name="curves").encode()
    files["explore.json"] = dumps(description, name="explore").encode()
    return files


def _programs(model: Model, space: LatentSpace) -> dict[str, bytes]:
    latents = len(jax.tree.leaves(model.generator.inputs[0]))
    names = ["z" if latents == 1 else f"z_{i}" for i in range(latents)]
    names += ["labels"] if model.classes else []
    key = jax.random.key_data(named_key(named_key(jax.random.key(0), "picture"), model.player))

    def converted(program: Program, inputs: list[str]) -> bytes:
        return to_onnx(program, model.weights[model.player], np.asarray(key), inputs)

    if not space.mapped:
        return {"generator.onnx": converted(model.generator, names)}
    return {
        "mapping.onnx": converted(model.programs.mappings[model.player], names),
        "synthesis.onnx": converted(model.programs.syntheses[model.player], ["w"]),
    }
