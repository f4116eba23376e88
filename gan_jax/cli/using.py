"""What a trained generator is used for: files of samples, walks between them, the latent of an image.

`--mode=sample` with `--sample_seeds`, `--label`, `--truncation` or `--out`; `--mode=interpolate`; `--mode=project`.
"""

from __future__ import annotations

import fnmatch
import io
import os
import pathlib
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from gan_jax.cli import finding
from gan_jax.cli.errors import UsageError
from gan_jax.cli.loading import load_model
from gan_jax.cli.mode_flags import refuse_fields
from gan_jax.cli.request import WEIGHTS, Request, parse_standing
from gan_jax.data.encoded import ARRAYS, GRID
from gan_jax.data.errors import DataError
from gan_jax.data.images import Conversion
from gan_jax.data.value_range import STANDARD, ValueRange, in_standard_range, parse_range
from gan_jax.models.model import Model, as_floats
from gan_jax.models.walks import WALKS
from gan_jax.pictures.animations import to_gif, to_mp4
from gan_jax.pictures.grids import image_grid, to_png, to_uint8
from gan_jax.runs.config import read_config
from gan_jax.runs.files import entries, is_link, is_local, is_there, reason, write_atomically
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import Workdir

MOST_SEEDS = 100_000
_GRID = 100
"""Samples in the grid at most; all of them are files of their own."""
_LISTED = 5
"""Names in a message at most."""
IN_TURN = (
    "There are as many samples of each class: by that they differ from data in which classes have other shares. "
    "--mode=evaluate, and --mode=compare of the work directory, draw classes by their shares."
)
"""What is said of samples whose classes are in turn."""
_COMPARED = 50
"""Samples that may be meant to be compared are as many at least."""
_MOST_BYTES = 120
"""Of a class's or an image's name in the name of a file."""


def sample_files(request: Request) -> None:
    """Writes a sample of each seed as a PNG that its seed and class name, with a grid and an `.npz` of all."""
    model = model_of(request)
    _check_latent(model, "--sample_seeds, --label, --truncation and --out")
    n = 16 if request.num_samples is None else request.num_samples
    seeds = parse_seeds(request.sample_seeds or f"0-{n - 1}")
    truncation = parse_number("truncation", request.truncation)
    _refuse_others(_place(request, model, "sampled"), ARRAYS, GRID, "seed_*.png")
    labels = None if request.label is None else [request.label] * len(seeds)
    drawn, numbers = _of_seeds(model, seeds, labels, truncation)
    out = directory(request, model, "sampled")
    width = len(str(max(seeds)))
    before = {path.name for path in entries(out)}
    written = set()
    arrays: dict[str, Any] = {"x": drawn, "seed": np.array(seeds, np.uint32)}
    if numbers is not None:
        arrays |= {"y": numbers, "classes": np.array(model.classes)}
    _write_npz(out / ARRAYS, arrays)
    if is_image(model):
        for place, (seed, image) in enumerate(zip(seeds, to_uint8(drawn), strict=True)):
            named = f"_class_{file_name(model.classes[numbers[place]])}" if numbers is not None else ""
            written.add(f"seed_{seed:0{width}d}{named}.png")
            write_atomically(out / f"seed_{seed:0{width}d}{named}.png", to_png(image))
        write_atomically(out / GRID, to_png(picture(drawn[:_GRID])))
    others = sum(fnmatch.fnmatch(name, "seed_*.png") for name in before - written)
    if others:
        tell(
            f"{out} has {others} samples of an earlier command too, which a comparison would mix.", sys.stderr
        )
    if len(model.classes) > 1 and numbers is not None and labels is None and len(seeds) >= _COMPARED:
        tell(IN_TURN, sys.stderr)
    tell(f"{len(seeds)} samples of {origin(model)}: {out}")


def interpolate(request: Request) -> None:
    """Writes walks between the samples of seeds: a grid with a row for each walk, and an animation of all."""
    model = model_of(request)
    _check_latent(model, "--mode=interpolate")
    seeds = parse_seeds(request.sample_seeds or "0-3")
    steps = parse_whole("walk_steps", request.walk_steps, 16)
    walk = request.walk or "spherical"
    if walk not in WALKS:
        raise UsageError(f"--walk is {' or '.join(WALKS)}, got {walk!r}.")
    _refuse_others(
        _place(request, model, f"walks_{walk}"), "walks.npz", "walks.png", "walks.gif", "walks.mp4"
    )
    frames = _usage(
        lambda: model.interpolate(
            seeds=seeds,
            steps=steps,
            walk=walk,
            label=request.label,
            truncation=parse_number("truncation", request.truncation),
        )
    )
    out = directory(request, model, f"walks_{walk}")
    written = [out / "walks.npz"]
    _write_npz(written[0], {"x": frames, "seed": np.array(seeds, np.uint32)})
    if is_image(model):
        flat = frames.reshape(-1, *frames.shape[2:])
        pictures = [_enlarged(image) for image in to_uint8(flat)]
        files = {"walks.png": to_png(image_grid(flat, columns=steps)), "walks.gif": to_gif(pictures)}
        if (movie := _usage(lambda: to_mp4(pictures))) is not None:
            files["walks.mp4"] = movie
        else:
            tell("No MP4 beside the GIF: ffmpeg is not installed.", sys.stderr)
        for name, content in files.items():
            write_atomically(out / name, content)
            written.append(out / name)
    tell(f"{len(seeds) - 1} walks of {origin(model)}: {', '.join(map(str, written))}")


def project(request: Request) -> None:
    """Writes the latent whose sample is nearest to an image, and both side by side."""
    from gan_jax.models.projection import project as find

    if request.image is None:
        raise UsageError("name the image: --image=FILE.")
    model = rebuilt(request, model_of(request))
    _check_latent(model, "--mode=project")
    if not is_image(model) or model.sample_shape[0] != model.sample_shape[1]:
        raise UsageError(f"--mode=project is for square images; the samples are {model.sample_shape}.")
    try:
        image = Conversion(size=model.sample_shape[0], channels=model.sample_shape[2])(
            pathlib.Path(request.image)
        )
        known = range_of(model.config, request.image)
        if known is not None and known != STANDARD:
            image = in_standard_range("x", image, *known)
    except DataError as error:
        raise UsageError(f"--image={request.image} cannot be read: {error}.") from error
    steps = parse_whole("project_steps", request.project_steps, 1000)
    name = f"projected_{file_name(pathlib.Path(request.image).stem)}"
    _refuse_others(_place(request, model, name), "projection.npz", "projected.png")
    found = _usage(
        lambda: find(
            model,
            image,
            steps=steps,
            distance=_distance(request, model),
            label=request.label,
            seed=model.seed,
            progress=True,
        )
    )
    out = directory(request, model, name)
    both = np.stack([as_floats(image), found.image])
    leaves = {f"latent_{i}" if i else "latent": leaf for i, leaf in enumerate(jax.tree.leaves(found.latent))}
    _write_npz(out / "projection.npz", {**leaves, "x": found.image, "history": found.history})
    write_atomically(out / "projected.png", to_png(image_grid(both, scale=_scale(both.shape[1]))))
    what = f"Nearest sample of {origin(model)}"
    if model.classes and request.label is None:
        what += f", class {model.classes[0]} (--label=CLASS takes another),"
    tell(f"{what} at a distance of {found.distance:.4g}: {out / 'projected.png'} and projection.npz")


def _check_latent(model: Model, what: str) -> None:
    """Checks that the model's samples are of a latent.

    Raises:
      UsageError: if they are of conditions alone, saying how those are sampled.
    """
    if model.programs.latent is None:
        raise UsageError(
            f"{what}: {model.player} makes its samples from conditions alone and has no latent. --mode=sample "
            "with --num_samples alone samples the run's own conditions; in Python, "
            "model.sample(conditions=[images]) takes yours."
        )


def range_of(config: Mapping[str, Any], data: str) -> ValueRange:
    """In which range other images are read for a run: in the run's own, if they are arrays, or files of images as
    its data are; else it is recognised.

    Args:
      config: of the run.
      data: the name of the images.
    """
    arrays = (".npz", ".npy")
    own = str(config.get("data", ""))
    alike = data.endswith(arrays) or (own != "" and not own.endswith(arrays))
    return parse_range(str(config.get("value_range", ""))) if alike else None


def origin(model: Model) -> str:
    """What of a run a model is: its round, which weights, and of several seeds which."""
    seeds = model.config.get("seeds", 1)
    seed = f", seed {model.seed} of the run's {seeds} seeds" if type(seeds) is int and seeds > 1 else ""
    return f"round {model.round} ({model.kind} weights{seed})"


def _distance(request: Request, model: Model) -> Any:
    """The distance that `--distance` names: `pixels`, `features` of the critic, or an extractor."""
    from gan_jax.evaluation.scoring import extractor_named

    name = request.distance or "pixels"
    return name if name in ("pixels", "features") else extractor_named(name, model.sample_shape)


def model_of(request: Request) -> Model:
    """The model that the flags name, by its programs or, where `--config` names the experiment, built by that."""
    return _loaded(request, request.experiment if request.config_given else None)


def rebuilt(request: Request, model: Model) -> Model:
    """The model built by its experiment, where its programs have no derivatives.

    Raises:
      DataError: if the run's data, by which the experiment builds, cannot be read.
      UsageError: if the model is an export, which no experiment builds.
    """
    if model.programs.differentiable:
        return model
    assert request.workdir is not None
    workdir = Workdir(request.workdir)
    if is_there(workdir.exported):
        raise UsageError(
            f"{workdir.root} was exported without the run's data, so its programs have no derivatives: export the "
            "run again where its data are."
        )
    saved = read_config(workdir)
    try:
        return _loaded(request, str(finding.recorded(saved.experiment, request.workdir)))
    except DataError as error:
        raise DataError(
            f"{error} The run's experiment builds the network, with the run's data: put them, or a link to them, "
            "where they were."
        ) from error


def _loaded(request: Request, config: str | None) -> Model:
    workdir = request.workdir
    if workdir is None:
        raise UsageError("name the run: --workdir=runs/...")
    refuse_fields(request.overrides, "a model of a run")
    if request.weights not in (None, *WEIGHTS):
        raise UsageError(f"--weights is one of {', '.join(WEIGHTS)}, got {request.weights!r}.")
    model = _usage(
        lambda: load_model(
            workdir,
            round=request.checkpoint,
            weights="raw" if request.weights == "raw" else "ema",
            player=request.player,
            config=config,
            devices=jax.local_devices(),
            standing_statistics=parse_standing(request.standing_statistics),
        )
    )
    if request.weights == "ema" and model.kind != "ema":
        raise UsageError("--weights=ema: no generator of this run keeps a moving average (--config.ema).")
    return model


def parse_seeds(text: str) -> list[int]:
    """`0-3,7` as seeds.

    Raises:
      UsageError: if they are none, or too many.

    >>> parse_seeds("0-3,7")
    [0, 1, 2, 3, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < 2**32 or last - first >= MOST_SEEDS:
            raise UsageError(
                f"--sample_seeds is seeds as in 0-499 or 0,3,7, up to {MOST_SEEDS}; got {text!r}."
            )
        seeds += range(first, last + 1)
    return seeds


def parse_number(name: str, text: str | None) -> float | None:
    """A flag's number, `None` if it was not given.

    Raises:
      UsageError: if it is no number, or not finite.
    """
    try:
        number = None if text is None else float(text)
    except ValueError:
        number = float("nan")
    if number is not None and not np.isfinite(number):
        raise UsageError(f"--{name} is a number, got {text!r}.")
    return number


def parse_whole(name: str, text: str | None, default: int) -> int:
    """A flag's whole number.

    Raises:
      UsageError: if it is none, or too large for an array.
    """
    if text is None:
        return default
    if not re.fullmatch(r"\d{1,6}", text):
        raise UsageError(f"--{name} is a whole number, got {text!r}.")
    return int(text)


def file_name(text: str) -> str:
    """A text as a part of a file's name: its beginning, if it is long.

    >>> file_name("T-shirt/top"), len(file_name("é" * 300).encode())
    ('T-shirt_top', 120)
    """
    named = re.sub(r"[^\w.-]", "_", text).strip(".").encode()[:_MOST_BYTES].decode(errors="ignore")
    return named or "_"


def _usage(call: Callable[[], Any]) -> Any:
    """The call's result; what it refuses is the user's to correct."""
    try:
        return call()
    except (ValueError, OSError) as error:
        if type(error) is ValueError or isinstance(error, OSError):
            raise UsageError(str(error)) from error
        raise


def _of_seeds(
    model: Model, seeds: list[int], labels: list[str] | None, truncation: float | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """A sample of each seed's first latent, and their classes' numbers if the generator takes a label.

    It depends on the seed, the class and the truncation only: noise that layers draw is the seed's own too.
    """

    def draw() -> tuple[np.ndarray, np.ndarray | None]:
        mapped = model.player in model.programs.mappings
        ends = [model.latents(1, seed=seed, truncation=None if mapped else truncation) for seed in seeds]
        z = jax.tree.map(lambda *rows: np.concatenate(rows), *ends)
        numbers = None
        if model.classes:
            turn = np.array(seeds) % len(model.classes)
            numbers = model.class_rows(turn if labels is None else labels, len(seeds))
        given: Any = labels if numbers is None else numbers
        psi = truncation if mapped else None
        if not model.draws_noise:
            return model.sample(z=z, labels=given, truncation=psi), numbers
        parts = [
            model.sample(
                1,
                seed=seed,
                labels=None if given is None else given[place : place + 1],
                truncation=truncation,
            )
            for place, seed in enumerate(seeds)
        ]
        return np.concatenate(parts), numbers

    return _usage(draw)


def directory(request: Request, model: Model, name: str) -> epath.Path:
    """The directory to write, `--out` or one in the work directory.

    Raises:
      UsageError: if it cannot be written, would mix with the files of a run, or is a link that lies in the work
        directory.
    """
    out = _place(request, model, name)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out={out} cannot be written: {reason(error)}.") from error
    return out


def _place(request: Request, model: Model, name: str) -> epath.Path:
    """The directory of `directory`, which is not made."""
    assert request.workdir is not None
    workdir = Workdir(request.workdir)
    out = epath.Path(request.out or workdir.root / f"{name}_{model.round:08d}")
    if request.out is None and is_link(out):
        raise UsageError(
            f"{out} is a link, and nothing is written through one in a work directory: give --out=."
        )
    refuse_files_of_a_run(out, workdir)
    return out


def _refuse_others(out: epath.Path, arrays: str, *patterns: str) -> None:
    """Checks that the files which a command replaces are those of an earlier one.

    Args:
      out: the directory.
      arrays: the `.npz` that the command writes first, by which it is known.
      *patterns: of the other files' names.

    Raises:
      UsageError: naming the files where there is no such `.npz`, or if it cannot be found out.
    """
    try:
        names = sorted(path.name for path in entries(out))
        others = [name for name in names if any(fnmatch.fnmatchcase(name, p) for p in (arrays, *patterns))]
        if others and not _is_ours(out / arrays):
            listed = ", ".join(others[:_LISTED]) + (", ..." if len(others) > _LISTED else "")
            raise UsageError(
                f"--out={out} has {listed}, of no earlier command of the kind: name a directory of its own."
            )
    except OSError as error:
        raise UsageError(f"--out={out} cannot be written: {reason(error)}.") from error


def _is_ours(arrays: epath.Path) -> bool:
    """Whether a file is an `.npz` of samples with their seeds, or of the history of a projection."""
    if is_link(arrays) or not arrays.is_file():
        return False
    try:
        with arrays.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return "x" in found.files and not {"seed", "history"}.isdisjoint(found.files)
    except (ValueError, zipfile.BadZipFile, AttributeError, TypeError):  # an array, text, a damaged archive
        return False


def refuse_files_of_a_run(out: epath.Path, workdir: Workdir) -> None:
    """Checks that what is written does not mix with the files of a run.

    Raises:
      UsageError: if a directory is a work directory, or a part of this one that belongs to the run.
    """
    if _is_of_a_run(out, workdir):
        raise UsageError(f"--out={out} holds the files of a run: name a directory of its own.")


def _is_of_a_run(out: epath.Path, workdir: Workdir) -> bool:
    """Whether a directory is a work directory, or a part of this one that belongs to the run."""
    if is_there(out / "config.json") and is_there(out / "checkpoints"):
        return True
    if not is_local(out):
        return False
    there = pathlib.Path(os.path.realpath(out))
    parts = (workdir.checkpoints, workdir.model, workdir.events, workdir.profile)
    return any(there.is_relative_to(os.path.realpath(part)) for part in parts)


def is_image(model: Model) -> bool:
    """Whether samples are images of one or three channels."""
    return len(model.sample_shape) == 3 and model.sample_shape[2] in (1, 3)


def picture(images: np.ndarray) -> np.ndarray:
    """A grid of images, small ones enlarged."""
    return image_grid(images, scale=_scale(images.shape[1]))


def _scale(height: int) -> int:
    """How often a pixel is repeated, so that small images are not tiny on a screen."""
    return max(1, 56 // height)


def _enlarged(image: np.ndarray) -> np.ndarray:
    scale = max(1, 224 // image.shape[0])
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def _write_npz(path: epath.Path, arrays: dict[str, Any]) -> None:
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_atomically(path, packed.getvalue())
