"""`--mode=explore`: a run as a page in a browser, served on loopback or written as a static folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath

from gan_jax.cli import changes, finding
from gan_jax.cli.building import build_seeds
from gan_jax.cli.errors import UsageError
from gan_jax.cli.opened_run import OpenedRun
from gan_jax.cli.request import Request
from gan_jax.cli.using import model_of, parse_whole, rebuilt, refuse_files_of_a_run
from gan_jax.data.errors import DataError
from gan_jax.evaluation.batches import source_examples
from gan_jax.evaluation.scoring import MOST_REAL
from gan_jax.explore.curves import records_after
from gan_jax.explore.image_folder import image_folder
from gan_jax.explore.image_session import ImageSession, ImageSource
from gan_jax.explore.nearest import MOST_STORED, Stored, stored_images
from gan_jax.explore.onnx_web import OnnxWebError, onnx_web
from gan_jax.explore.page_files import page_files, page_routes
from gan_jax.explore.server import HOST, PortError, Routes, make_server
from gan_jax.explore.toy_games import ToyGames, is_plane
from gan_jax.explore.toy_session import ToySession, ToySource, toy_folder
from gan_jax.game import GeneratorRole
from gan_jax.models.model import Model
from gan_jax.models.onnx_export import OnnxError
from gan_jax.runs.checkpoint import CheckpointError, Checkpoints
from gan_jax.runs.config import read_config, take_saved
from gan_jax.runs.files import is_there, read_regular, reason
from gan_jax.runs.portable_files import DESCRIPTION
from gan_jax.runs.replacing import not_as_written, replace_files
from gan_jax.runs.strict_json import dumps
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import Workdir, refuse_links
from gan_jax.training.experiment import Experiment, ExperimentError

PORT = 8265
_EXPORTED = "What was exported has no training data."
_IMAGE_CHANNELS = (1, 2, 3, 4)
PAGE = "explore.json"
"""What a page is made of, and what its other files were as they were written."""
OF_A_RUN = ("training.u8", "generator.onnx", "mapping.onnx", "synthesis.onnx")
"""Files of a page that another page may lack: training images for all to see, and weights."""


def explore(request: Request) -> None:
    """Serves the page until Ctrl-C, or with `--out` writes it as a folder."""
    if request.out is not None and request.port is not None:
        raise UsageError("--port is of a page that is served, and --out writes a folder: give one of them.")
    if request.out is None and request.onnxruntime_web is not None:
        raise UsageError("--onnxruntime_web is for --out: a page that is served needs none.")
    if request.out is not None:
        _check_out(epath.Path(request.out), request.workdir)
    page = _page(request)
    if request.out is not None:
        tell(
            f"Making {request.out}: what it shows is compiled and drawn first, in some minutes.",
            sys.stderr,
        )
        _write(epath.Path(request.out), page.files())
        return
    port = _port(request.port)
    try:
        server = make_server({**page_routes(), **page.routes()}, port)
    except PortError as error:
        raise UsageError(f"{error}: give another with --port=N, or --port=0 for any.") from error
    serve(server)


def serve(server: http.server.ThreadingHTTPServer) -> None:
    """Says where the page is, and serves it until Ctrl-C."""
    with server:
        tell(f"Explore at http://{HOST}:{server.server_address[1]}/ (Ctrl-C ends it).")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


@dataclasses.dataclass(frozen=True)
class Page:
    """What is served, and what is written as a folder; each is made when it is asked for."""

    routes: Callable[[], Routes]
    files: Callable[[], Mapping[str, bytes]]


def _page(request: Request) -> Page:
    if request.workdir is None:
        if not request.config_given:
            raise UsageError("name the run, --workdir=runs/..., or a game of points to play, --config=ring.")
        return _toy_page(request, request.config, None)
    workdir = Workdir(request.workdir)
    model = model_of(request)
    if model.sample_shape == (2,):
        return _toy_page(*_experiment_of(request, workdir), workdir)
    if len(model.sample_shape) != 3 or model.sample_shape[2] not in _IMAGE_CHANNELS:
        raise UsageError(
            f"--mode=explore shows images and points of the plane; the samples are {model.sample_shape}."
        )
    conditions = model.generator.inputs[1:]
    if model.programs.latent is None or any(len(shape.shape) != 1 for shape in conditions):
        raise UsageError(
            f"--mode=explore moves the latent of a generator; {model.player} makes images of images: "
            "--mode=sample shows what it does."
        )
    return _image_page(request, workdir, model)


def _image_page(request: Request, workdir: Workdir, model: Model) -> Page:
    name = workdir.root.name
    exported = is_there(workdir.root / DESCRIPTION)

    def training_images() -> tuple[Callable[[], np.ndarray] | None, str]:
        return (None, _EXPORTED) if exported else _training(request, workdir, model)

    def files() -> Mapping[str, bytes]:
        programs = _exported_programs(workdir, model) if exported else None
        try:
            runtime = onnx_web(request.onnxruntime_web)
            training, note = _stored(request, training_images)
            return image_folder(
                name,
                model if exported else rebuilt(request, model),
                records_after(workdir, -1),
                runtime,
                training=training,
                note=note,
                programs=programs,
            )
        except (OnnxError, OnnxWebError) as error:
            raise UsageError(f"--mode=explore --out: {error}.") from error

    def routes() -> Routes:
        training, note = training_images()
        source = ImageSource(
            name=name,
            load=lambda step: model if step == model.round else model_of(request),
            newest=functools.partial(_newest, request, workdir, model),
            training=training,
            note=note,
            curves=functools.partial(records_after, workdir),
        )
        return ImageSession(source).routes()

    return Page(routes, files)


def _stored(
    request: Request, training_images: Callable[[], tuple[Callable[[], np.ndarray] | None, str]]
) -> tuple[Stored | None, str]:
    """Training images for a folder, and what the page says of them."""
    most = parse_whole("training_images", request.training_images, MOST_STORED)
    if not most:
        return None, "This folder has no training images."
    read, note = training_images()
    if read is None:
        return None, note
    try:
        images = read()
    except ValueError as error:
        return None, str(error)
    stored = stored_images(images, most)
    number = len(stored.levels)
    smaller = f", {stored.factor} x {stored.factor} pixels averaged to one" if stored.factor > 1 else ""
    tell(f"The folder holds {number:,} training images for all to see: --training_images=0 leaves them out.")
    return stored, f"Among {number:,} of {len(images):,} training images{smaller}."


def _exported_programs(workdir: Workdir, model: Model) -> dict[str, bytes]:
    """The ONNX files of an export.

    Raises:
      UsageError: if it has none, since programs of `jax.export` have no form in ONNX.
    """
    mapped = model.player in model.programs.mappings
    names = ("mapping.onnx", "synthesis.onnx") if mapped else ("generator.onnx",)
    if lacking := [name for name in names if not is_there(workdir.root / name)]:
        raise UsageError(
            f"--mode=explore --out: {workdir.root} lacks {' and '.join(lacking)}, which a browser runs: export the "
            "run with --format=onnx, and name that folder. Without --out the page is served here."
        )
    try:
        return {name: read_regular(workdir.root / name) for name in names}
    except OSError as error:
        raise UsageError(f"{workdir.root} cannot be read: {reason(error)}.") from error


def _newest(request: Request, workdir: Workdir, model: Model) -> tuple[int, str]:
    """The newest round that is saved, or that of `--checkpoint`, and its digest; empty where it cannot be read."""
    if not is_there(workdir.checkpoints):
        return model.round, model.checkpoint
    with Checkpoints(workdir.checkpoints) as checkpoints:
        newest = max(checkpoints.steps(), default=model.round)
        step = newest if request.checkpoint is None else request.checkpoint
        try:
            return step, checkpoints.digest(step)
        except CheckpointError:
            return step, ""


def _training(
    request: Request, workdir: Workdir, model: Model
) -> tuple[Callable[[], np.ndarray] | None, str]:
    """How to read the training images, or why they are not read."""
    try:
        own, config = _experiment_of(request, workdir)
    except UsageError as error:
        return None, f"Nearest training images need the run's experiment: {error}"

    def images() -> np.ndarray:
        try:
            experiment = build_seeds(own, _single(config))
        except (UsageError, ExperimentError, DataError, OSError) as error:
            raise ValueError(f"The run's data cannot be read: {error}") from error
        _say_changes(own, config, workdir, experiment)
        role = experiment.game.players[model.player].role
        assert isinstance(role, GeneratorRole)
        try:
            most = MOST_REAL if experiment.source.size is not None else 5000
            return source_examples(experiment.source, most, entry=role.target)
        finally:
            experiment.source.close()

    return images, ""


def _experiment_of(request: Request, workdir: Workdir) -> tuple[Request, Any]:
    """A request that names the run's experiment, and the run's configuration.

    Raises:
      UsageError: if it is none of the installation's, and `--config` does not name it.
    """
    saved = read_config(workdir)
    refuse_links(workdir)
    if not request.config_given:
        path = finding.recorded(saved.experiment, str(workdir.root))
        request = dataclasses.replace(request, experiment=str(path))
    config = finding.load(pathlib.Path(request.experiment)).get_config()
    take_saved(config, saved.config, (), workdir)
    return request, config


def _say_changes(request: Request, config: Any, workdir: Workdir, experiment: Experiment) -> None:
    """Says what is another now than when the run was trained."""
    if changed := changes.changes(workdir, config, experiment, request.experiment):
        tell(changes.message(workdir, changed), sys.stderr)


def _single(config: Any) -> Any:
    """The configuration of the first seed, as a copy."""
    copy = config.copy_and_resolve_references()
    if "seeds" in copy:
        copy.seeds = 1
    return copy


def _toy_page(request: Request, config: Any, workdir: Workdir | None) -> Page:
    def build(fields: Mapping[str, Any]) -> Experiment:
        changed = _single(config)
        changed.update(fields)
        return build_seeds(request, changed)

    first = build({})
    if not is_plane(first):
        raise UsageError(
            "without --workdir --mode=explore plays games of points of the plane, as --config=ring."
        )
    games = ToyGames(build, list(config.keys()), str(config.get("objective", "this game")))
    run = None if workdir is None else OpenedRun(workdir, build_seeds(request, config))
    if run is not None:
        _say_changes(request, config, run.workdir, run.experiment)

    def rounds() -> list[int]:
        if run is None:
            return []
        with run.checkpoints() as checkpoints:
            return checkpoints.steps()

    def state(step: int) -> Any:
        assert run is not None
        (found,) = run.restored([step])
        return run.per_seed(found.state)[0][1]

    def digest(step: int) -> str:
        assert run is not None
        with run.checkpoints() as checkpoints:
            return checkpoints.digest(step)

    source = ToySource(
        name=workdir.root.name if workdir is not None else pathlib.Path(request.experiment).stem,
        games=games,
        rounds=rounds,
        state=state,
        digest=digest,
        curves=functools.partial(records_after, workdir) if workdir is not None else None,
    )
    return Page(lambda: ToySession(source).routes(), lambda: toy_folder(source))


def _check_out(out: epath.Path, workdir: str | None) -> None:
    """Checks that a page is written over no run and no export.

    Raises:
      UsageError: if it would be.
    """
    refuse_files_of_a_run(out, Workdir(out if workdir is None else workdir))
    if is_there(out / DESCRIPTION):
        raise UsageError(f"--out={out} holds an export: name a directory of its own.")
    _refuse_others(out, (*page_files(), PAGE, *OF_A_RUN))  # before minutes of work


def _refuse_others(out: epath.Path, names: Iterable[str]) -> None:
    """Checks that the files which a page replaces are those of an earlier one, as that wrote them.

    Raises:
      UsageError: naming the others: an index.html of somebody's own, a style sheet that was edited since; or if
        they cannot be read.
    """
    written: dict[str, str] = {}
    try:
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError, LookupError, RecursionError):
            written = {**json.loads(read_regular(out / PAGE))["sha256"]}
        others = not_as_written(out, names, PAGE, written)
    except OSError as error:
        raise UsageError(f"--out={out} cannot be written: {reason(error)}.") from error
    if others:
        raise UsageError(
            f"--out={out} has {', '.join(others)}, not as an earlier page has written it: move it, or name a "
            "directory of its own."
        )


def _write(out: epath.Path, files: Mapping[str, bytes]) -> None:
    """Writes the folder; files of an earlier page that this one has not go.

    Raises:
      UsageError: if it cannot be written, or has files of these names that are not as an earlier page wrote them.
    """
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != PAGE}
    files = {**files, PAGE: dumps({**json.loads(files[PAGE]), "sha256": digests}, name="explore").encode()}
    _refuse_others(out, (*files, *OF_A_RUN))
    try:
        replace_files(out, files, last="index.html", stale=OF_A_RUN)
    except OSError as error:
        raise UsageError(f"--out={out} cannot be written: {reason(error)}.") from error
    size = sum(map(len, files.values())) / 2**20
    tell(f"Written to {out} ({size:.0f} MiB): python -m http.server --directory {out}, or any file server.")


def _port(text: str | None) -> int:
    """The port that `--port` asks for.

    Raises:
      UsageError: if it is none.

    >>> _port(None), _port("0")
    (8265, 0)
    """
    if text is None:
        return PORT
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > 65535:
        raise UsageError(f"--port is 0 to 65535, got {text!r}.")
    return int(text)
