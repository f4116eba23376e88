"""The page of a generator of images as a static folder, which any file server serves.

index.html, *.js, style.css     the page
explore.json                    what it is made of
latents_0.f32, ...              the latents of the first seeds, a file for each choice of truncation
generator.onnx                  z (and labels) to samples; with a mapping network mapping.onnx and synthesis.onnx
training.u8                     training images, made smaller, where there are any
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
from gan_jax.explore.nearest import Stored
from gan_jax.explore.page_files import page_files
from gan_jax.keys import named_key
from gan_jax.models.model import Model
from gan_jax.models.onnx_export import to_onnx
from gan_jax.models.programs import Program
from gan_jax.runs.strict_json import dumps

SEEDS = 100


def image_folder(
    name: str,
    model: Model,
    curves: Mapping[str, Any],
    runtime: Mapping[str, bytes],
    *,
    training: Stored | None = None,
    note: str = "",
    programs: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """The files of the folder by name.

    Args:
      name: what the page calls the run.
      model: the generator, built by its experiment, or any with derivatives where `programs` are given.
      curves: all of `curves.records_after`.
      runtime: the files of `onnx_web`.
      training: training images to compare samples with.
      note: what the page says beside them, or why there are none.
      programs: the files of `onnx_programs`; by default made of the model.

    Raises:
      OnnxError: if the generator has no form in ONNX.
    """
    space = LatentSpace.of(model)
    description = {
        **described(name, model, space),
        "served": False,
        "seeds": SEEDS,
        "nearest": [] if training is None else ["pixels"],
        "note": note,
    }
    files = {**page_files(), **runtime, **(onnx_programs(model) if programs is None else programs)}
    if training is not None:
        description["training"] = {"factor": training.factor, "shape": list(training.levels.shape[1:])}
        files["training.u8"] = training.levels.tobytes()
    for choice, truncation in enumerate(description["truncations"]):
        files[f"latents_{choice}.f32"] = np.ascontiguousarray(
            space.seeds(range(SEEDS), truncation), "<f4"
        ).tobytes()
    files["curves.json"] = dumps(curves, name="curves").encode()
    files["explore.json"] = dumps(description, name="explore").encode()
    return files


def onnx_programs(model: Model) -> dict[str, bytes]:
    """What makes samples in a browser, as ONNX: `generator.onnx`, or `mapping.onnx` and `synthesis.onnx`.

    Args:
      model: built by its experiment.

    Raises:
      OnnxError: if the generator has no form in ONNX.
    """
    latents = len(jax.tree.leaves(model.generator.inputs[0]))
    names = ["z" if latents == 1 else f"z_{i}" for i in range(latents)]
    names += ["labels"] if model.classes else []
    key = jax.random.key_data(named_key(named_key(jax.random.key(0), "picture"), model.player))

    def converted(program: Program, inputs: list[str]) -> bytes:
        return to_onnx(program, model.weights[model.player], np.asarray(key), inputs)

    if model.player not in model.programs.mappings:
        return {"generator.onnx": converted(model.generator, names)}
    return {
        "mapping.onnx": converted(model.programs.mappings[model.player], names),
        "synthesis.onnx": converted(model.programs.syntheses[model.player], ["w"]),
    }
