"""`--mode=export`: a generator as files for others: weights, programs, a model card.

Every format is a directory that `load_model` reads:

    README.md            the model card
    model.safetensors    the weights
    model.json           what the programs take, the run's configuration
    *.jaxexport          the programs of `gan_jax.models.portable`, with derivatives
    sample.jaxexport     with `--format=stablehlo`: latent (and conditions) -> samples, the weights inside
    generator.onnx       with `--format=onnx`
    samples.png          samples of seed 0
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from gan_jax.cli import evaluation_file, finding
from gan_jax.cli.errors import UsageError
from gan_jax.cli.request import Request, parse_standing
from gan_jax.cli.using import directory, is_image, model_of, origin, picture, rebuilt
from gan_jax.data.errors import DataError
from gan_jax.data.safetensors import write_safetensors
from gan_jax.keys import named_key
from gan_jax.models.card import model_card
from gan_jax.models.model import Model
from gan_jax.models.onnx_export import OnnxError, lacks_noise, noise_inputs, to_onnx
from gan_jax.models.portable import PLATFORMS, SUFFIX, to_files
from gan_jax.pictures.grids import to_png
from gan_jax.runs.config import SavedConfig, read_config
from gan_jax.runs.files import is_there, read_regular, reason
from gan_jax.runs.portable_files import DESCRIPTION, described
from gan_jax.runs.replacing import not_as_written, replace_files
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import Workdir

FORMATS = ("safetensors", "stablehlo", "onnx")
ONNX_FILES = ("generator.onnx", "mapping.onnx", "synthesis.onnx")
_CARD_SAMPLES = 64


def export(request: Request) -> None:
    """Writes a generator as `--format` asks for."""
    kind = request.format or "safetensors"
    if kind not in FORMATS:
        raise UsageError(f"--format is one of {', '.join(FORMATS)}, got {kind!r}.")
    model = model_of(request)
    try:
        model = rebuilt(request, model)
    except DataError as error:
        if kind == "onnx":
            raise
        tell(
            f"{error} Until then the export is of the programs beside the checkpoints, without the derivatives "
            "that gan_jax.project needs.",
            sys.stderr,
        )
    assert request.workdir is not None
    saved = read_config(Workdir(request.workdir))
    out = directory(request, model, f"exported_{kind}")
    names, inputs = _inputs(model)
    extra: dict[str, bytes] = {}
    if kind == "stablehlo":
        extra["sample" + SUFFIX] = standalone(model)
    if kind == "onnx":
        extra = _onnx(model, names)
    noiseless = kind == "onnx" and lacks_noise(model.generator, model.weights[model.player], noise_key(model))
    if noiseless:
        tell(
            f"{model.player} draws noise for every sample, such as dropout, which has no form in ONNX: the "
            "samples of generator.onnx are without it.",
            sys.stderr,
        )
    pictures = _pictures(model)
    facts = _facts(request, model, saved)
    card = model_card(
        facts,
        evaluation=evaluation_file.of_checkpoint(
            Workdir(request.workdir),
            model.checkpoint,
            model.kind,
            model.seed,
            parse_standing(request.standing_statistics),
        ),
        inputs=[(name, *shape) for name, shape in zip(names, inputs, strict=True)],
        license=request.license or "unknown",
        pictures=list(pictures),
        stablehlo=kind == "stablehlo",
        onnx=kind == "onnx",
        noise=noise_inputs(model.generator, model.weights[model.player], noise_key(model))
        if kind == "onnx"
        else {},
        noiseless=noiseless,
        overridden=[
            (launch.step, launch.overridden)
            for launch in saved.launches
            if launch.overridden and 0 < launch.step < model.round
        ],
    )
    arrays = {
        f"{owner}/{name}": np.asarray(array)
        for owner, part in model.weights.items()
        for name, array in part.items()
    }
    description, programs = to_files(model.only_its_player(), differentiable=model.programs.differentiable)
    metadata = {"format": "gan_jax", "round": str(model.round), "weights": model.kind}
    files = {
        **extra,
        **pictures,
        **programs,
        "model.safetensors": write_safetensors(arrays, metadata),
        "README.md": card.encode(),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    files[DESCRIPTION] = described({**description, "exported": facts, "sha256": digests})
    try:
        stale = _stale(out)
        _refuse_others(out, (*files, *stale))
        replace_files(out, files, last=DESCRIPTION, stale=stale)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {reason(error)}.") from error
    tell(f"Exported {origin(model)}: {out}")


def _refuse_others(out: Any, names: Iterable[str]) -> None:
    """Checks that the files which an export replaces or removes are those of an earlier one, as that wrote them.

    Raises:
      UsageError: naming the others: a README or a program of somebody's own, a card that was edited since, an
        evaluation of the export.
    """
    written: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, LookupError, RecursionError):
        earlier = json.loads(read_regular(out / DESCRIPTION))
        if earlier["exported"]["round"] >= 0:
            written = {**earlier["sha256"]}
    if others := not_as_written(out, names, DESCRIPTION, written):
        raise UsageError(
            f"{out} has {', '.join(others)}, not as an earlier export has written it: move it, or name another "
            "directory, --out=DIR."
        )


def _stale(out: Any) -> list[str]:
    """What is there beside an earlier export that would be taken for a file of this one."""
    if not is_there(out / DESCRIPTION):
        return []
    programs = [path.name for path in out.iterdir() if path.name.endswith(SUFFIX)]
    return [*ONNX_FILES, "samples.png", "evaluation.json", *programs]


def _onnx(model: Model, names: Sequence[str]) -> dict[str, bytes]:
    """The generator as ONNX and, where it has a mapping network, both of its halves.

    Raises:
      UsageError: if it has no form in ONNX.
    """
    parts = {"generator.onnx": (model.generator, names)}
    if model.player in model.programs.mappings:
        parts["mapping.onnx"] = (model.programs.mappings[model.player], names)
        parts["synthesis.onnx"] = (model.programs.syntheses[model.player], ["w"])
    try:
        return {
            file: to_onnx(program, model.weights[model.player], noise_key(model), inputs)
            for file, (program, inputs) in parts.items()
        }
    except OnnxError as error:
        raise UsageError(f"--format=onnx: {error}.") from error


def noise_key(model: Model) -> np.ndarray:
    """The key data of the noise of layers, those of seed 0."""
    return np.asarray(jax.random.key_data(named_key(named_key(jax.random.key(0), "picture"), model.player)))


def standalone(model: Model) -> bytes:
    """The generator with its weights inside: `(latent, *conditions) -> samples` for any batch, by `jax.export`."""
    program, key = model.generator, noise_key(model)
    weights = {name: jnp.asarray(array) for name, array in model.weights[model.player].items()}
    (batch,) = jax_export.symbolic_shape("b")
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype), program.inputs
    )
    exporting = jax_export.export(
        jax.jit(lambda *given: program.call(weights, key, *given)), platforms=PLATFORMS
    )
    return bytes(exporting(*shapes).serialize())


def _inputs(model: Model) -> tuple[list[str], list[tuple[tuple[int, ...], str]]]:
    """The names of the generator's inputs, their shapes without the batch, and dtypes."""
    leaves = jax.tree.leaves(model.generator.inputs)
    latents = len(jax.tree.leaves(model.generator.inputs[0])) if model.programs.latent is not None else 0
    names = ["z" if latents == 1 else f"z_{i}" for i in range(latents)]
    for place, leaf in enumerate(leaves[latents:]):
        names.append("labels" if leaf.ndim == 1 else f"condition_{place}")
    return names, [(leaf.shape[1:], str(leaf.dtype)) for leaf in leaves]


def _pictures(model: Model) -> dict[str, bytes]:
    """Samples as a picture, by the file's name; none of what is no image or needs the run's data."""
    if not is_image(model) or model.programs.latent is None:
        return {}
    return {"samples.png": to_png(picture(model.sample(_CARD_SAMPLES, seed=0)))}


def _facts(request: Request, model: Model, saved: SavedConfig) -> dict[str, Any]:
    launch = saved.launches[-1] if saved.launches else None
    experiment = saved.experiment or "FILE"
    return {
        "player": model.player,
        "round": model.round,
        "weights": model.kind,
        "seed": model.seed,
        "experiment": experiment,
        "config": saved.config,
        "data": saved.data,
        "classes": list(model.classes),
        "versions": launch.versions if launch else saved.versions,
        "commit": launch.commit if launch else saved.commit,
        "command": _command(experiment, saved.config),
    }


def _command(experiment: str, config: Mapping[str, Any]) -> str:
    """What trains such a run anywhere: a shipped experiment by its name, a file without the path to it.

    >>> _command("experiments/ring.py", {"rounds": 5}), _command("/elsewhere/my.py", {})
    ('gan-jax --config=ring --config.rounds=5', 'gan-jax --config=my.py')
    """
    file = pathlib.PurePath(experiment)
    named = file.stem if finding.installed(experiment) else file.name
    fields = [f"--config.{name}={value}" for name, value in config.items() if not isinstance(value, dict)]
    return shlex.join(["gan-jax", f"--config={named}", *fields])
