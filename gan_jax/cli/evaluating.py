"""`--mode=evaluate`: scores of a run's checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gan_jax.cli import evaluation_file
from gan_jax.cli.errors import UsageError
from gan_jax.cli.opened_run import OpenedRun, open_run
from gan_jax.cli.request import PATH_LENGTH, Request
from gan_jax.cli.using import model_of, range_of
from gan_jax.game import GeneratorRole
from gan_jax.runs.config import read_config
from gan_jax.runs.files import is_there
from gan_jax.runs.portable_files import DESCRIPTION
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import Workdir
from gan_jax.training.experiment import Experiment, ExperimentError

if TYPE_CHECKING:
    from gan_jax.metrics.path_length import Distance
    from gan_jax.runs.checkpoint import Restored
    from gan_jax.state import TrainState
    from gan_jax.types import Batch


def evaluate(request: Request) -> None:
    """Writes `evaluation.json`, a list of the evaluations of the checkpoints, and prints their tables."""
    if request.workdir is not None and is_there(Workdir(request.workdir).root / DESCRIPTION):
        evaluation_file.write(Workdir(request.workdir), [_of_export(request)])
        return
    from gan_jax.distributed import hosts
    from gan_jax.evaluation.averages import young_average
    from gan_jax.evaluation.batches import iterate_host_batches
    from gan_jax.evaluation.evaluate import evaluate as evaluate_state
    from gan_jax.evaluation.seed_statistics import combined

    run = open_run(request)
    weights, standing, intervals = run.weights(request), run.standing(request), _intervals(request)
    overridden = _overridden(run)
    experiments: list[Experiment] = []
    firsts = []
    for single in run.single_seeds():
        host_batch_iterator = iterate_host_batches(single.source)
        firsts.append(next(host_batch_iterator))
        batches = itertools.chain([firsts[-1]], host_batch_iterator)
        experiments.append(_scored(request, run, single, batches, experiments[0] if experiments else None))
    experiment = experiments[0]
    shapes = (
        [run.sample_shape(name) for name in run.generators(request.player)] if _takes_paths(request) else []
    )
    distance = _distance(request, experiment.extractor, shapes)
    found: list[dict[str, Any]] = []

    def measured(restored: Restored) -> dict[str, Any]:
        if intervals and hosts.first() and not found and _has_scores(experiment):
            tell(
                "Scoring with intervals and floors, which takes many times as long as the scores: --intervals=no "
                "leaves them out.",
                sys.stderr,
            )
        evaluations = []
        states = [seed_state for _, seed_state in run.per_seed(restored.state, standing)]
        for single, first, seed_state in zip(experiments, firsts, states, strict=True):
            evaluation = evaluate_state(
                single, seed_state, _batch(single, seed_state, first), weights=weights
            )
            if distance is not None:
                players = run.generators(request.player)
                _add_path_lengths(evaluation, players, single, seed_state, distance, intervals=intervals)
            evaluations.append(evaluation)
        if hosts.first() and weights != "raw" and (note := young_average(experiment.game, restored.step)):
            tell(note, sys.stderr)
        combination = evaluations[0] if len(evaluations) == 1 else combined(evaluations)
        return {
            **combination,
            "checkpoint": restored.digest,
            **({} if standing is None else {"standing_statistics": standing}),
            **({"overridden": overridden} if overridden else {}),
            **({"changed": list(run.changed)} if run.changed else {}),
        }

    try:
        for restored in run.restored(_wanted(request, run)):
            found.append(measured(restored))
            if hosts.first():
                with contextlib.suppress(OSError):  # said at the end; a kill must not lose what took hours
                    evaluation_file.store(run.workdir, found)
    except BaseException:
        if found and hosts.first():
            with contextlib.suppress(UsageError):  # what ends the command is the error to report
                evaluation_file.write(run.workdir, found)
        raise
    if not found:
        raise UsageError("None of the checkpoints could be read.")
    if not hosts.first():
        return
    evaluation_file.write(run.workdir, found)


def _overridden(run: OpenedRun) -> list[dict[str, Any]]:
    """The launches that `--override` let go on otherwise, with their rounds and what was another then; says so.

    What is held out now may have been trained on before such a launch.
    """
    from gan_jax.distributed import hosts

    launches: list[dict[str, Any]] = [
        {"step": launch.step, "changed": launch.overridden}
        for launch in read_config(run.workdir).launches
        if launch.overridden and launch.step
    ]
    if launches and hosts.first():
        said = "; ".join(f"from round {each['step']} with {', '.join(each['changed'])}" for each in launches)
        held_out = run.experiment.held_out is not None
        tell(
            f"--override changed this run: {said}."
            + " What is held out now may have been trained on before." * held_out,
            sys.stderr,
        )
    return launches


def _of_export(request: Request) -> dict[str, Any]:
    """The path length of an exported generator, as an evaluation.

    Raises:
      UsageError: if anything else is asked for, which takes the run's data.
    """
    from gan_jax.models.path_lengths import path_length

    if _metrics(request) != (PATH_LENGTH,):
        raise UsageError(
            f"{request.workdir} was exported, without data to evaluate it by: --metrics={PATH_LENGTH} needs none; "
            "for other scores draw samples, --mode=sample --out=DIR, and compare these, --mode=compare --fake=DIR; "
            "of classes there are as many of each, which a comparison with data of other shares measures too."
        )
    model = model_of(request)
    samples = Experiment.evaluation_samples if request.num_samples is None else request.num_samples
    distance = _distance(request, "", [model.sample_shape])
    assert distance is not None
    try:
        found = path_length(model, distance, samples=samples)
    except ValueError as error:
        raise UsageError(str(error)) from error
    intervals = {"samples": {model.kind: {found.name: found.interval()}}}
    return {
        "step": model.round,
        "checkpoint": model.checkpoint,
        "evaluation_samples": samples,
        "seed": model.seed,
        "samples": {model.kind: {found.name: found.value, f"{found.name}_error": found.standard_error}},
        "fingerprints": {},
        "players": {},
        **({"intervals": intervals} if _intervals(request) else {}),
    }


def _batch(experiment: Experiment, state: TrainState, host_batch: Any) -> Batch:
    """The batch of one that this process holds, on the state's devices."""
    import jax

    from gan_jax.distributed.mesh import mesh_of
    from gan_jax.distributed.transfer import first_batch, put, send
    from gan_jax.evaluation.batches import get_batch

    mesh = mesh_of(state)
    if mesh is None or jax.process_count() == 1:
        return get_batch(experiment.source, state, host_batch)
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    sent = first_batch(send(jax.tree.map(lambda x: x[None, None], host_batch), mesh))
    return get_batch(experiment.source, state, sent, put(experiment.source.device_data, replicated))


def _metrics(request: Request) -> tuple[str, ...]:
    """The metrics that are asked for; none if all are to be computed."""
    return tuple(filter(None, (request.metrics or "").split(",")))


def _takes_paths(request: Request) -> bool:
    return PATH_LENGTH in _metrics(request)


def _distance(request: Request, extractor: str, shapes: Sequence[tuple[int, ...]]) -> Distance | None:
    """The distance of path lengths, if these are asked for: of an extractor unless the request names another.

    Args:
      request: the request.
      extractor: the name of the run's extractor.
      shapes: of one sample, of each generator whose paths are measured.

    Raises:
      UsageError: if the files of `--lpips` are not two, or cannot be read, or samples are no images.
    """
    from gan_jax.evaluation.scoring import extractor_named
    from gan_jax.metrics import feature_distance, lpips_distance

    if not _takes_paths(request):
        if request.lpips is not None:
            raise UsageError(f"--lpips is for --metrics={PATH_LENGTH}.")
        return None
    name = request.extractor or extractor
    other = next((shape for shape in shapes if len(shape) != 3), None)
    if other is not None and (request.lpips is not None or not name.startswith("function:")):
        raise UsageError(f"--metrics={PATH_LENGTH} is of images [H, W, C]; these samples are {list(other)}.")
    if request.lpips is None:
        return feature_distance(extractor_named(name, (1, 1, 1), request.protocol or ""))
    files = request.lpips.split(",")
    if len(files) != 2:
        raise UsageError(f"--lpips is two files, VGG16.pth,HEADS.pth, got {request.lpips!r}.")
    try:
        return lpips_distance(*files)
    except ValueError as error:
        raise UsageError(f"--lpips: {error}") from error


def _add_path_lengths(
    evaluation: dict[str, Any],
    players: Sequence[str],
    experiment: Experiment,
    state: TrainState,
    distance: Distance,
    *,
    intervals: bool,
) -> None:
    """Adds the path lengths of generators to an evaluation, under names that say how they were measured."""
    from gan_jax.evaluation.path_lengths import path_length
    from gan_jax.evaluation.sampling import generators_of

    several = len(generators_of(experiment.game)) > 1
    for kind, metrics in evaluation["samples"].items():
        for player in players:
            try:
                found = path_length(experiment, state, distance, player=player, ema=kind == "ema")
            except ExperimentError as error:
                if not metrics:
                    raise
                tell(f"Without a path length: {error}", sys.stderr)  # scores have taken long
                return
            name = f"{player}/{found.name}" if several else found.name
            metrics |= {name: found.value, f"{name}_error": found.standard_error}
            if intervals:
                bounds = evaluation.setdefault("intervals", {}).setdefault("samples", {}).setdefault(kind, {})
                bounds[name] = found.interval()


def _scored(
    request: Request,
    run: OpenedRun,
    experiment: Experiment,
    host_batch_iterator: Iterator[Any],
    first: Experiment | None = None,
) -> Experiment:
    """A seed's experiment with the comparison that the flags ask for among its evaluations.

    Args:
      request: the request.
      run: the run.
      experiment: the seed's.
      host_batch_iterator: its batches from the first on.
      first: what was returned for the first seed, whose features are shared where the real examples are the same.
    """
    from gan_jax.evaluation import scoring
    from gan_jax.metrics.features import marked_as_given

    n = experiment.evaluation_samples if request.num_samples is None else request.num_samples
    if n < 2:
        raise UsageError(f"--num_samples is 2 or more to evaluate, got {n}.")
    experiment = dataclasses.replace(experiment, evaluation_samples=n)
    everyone, players = run.generators(None), run.generators(request.player)
    for player in everyone:  # all are evaluated by what the experiment measures
        run.different_samples(request, experiment, player, n, evaluates=True)
    prefixes = {player: "" if len(everyone) == 1 else f"{player}/" for player in everyone}
    targets = {getattr(experiment.game.players[name].role, "target", "") for name in everyone}
    evaluations = {
        name: evaluation
        for name, evaluation in experiment.evaluations.items()
        if any(name.startswith(prefixes[player]) for player in players)
    }
    which = tuple(name for name in _metrics(request) if name != PATH_LENGTH)
    asked = request.data or request.extractor or request.metrics or request.protocol
    for player, batches in zip(players, itertools.tee(host_batch_iterator, len(players)), strict=True):
        name = f"{prefixes[player]}scores"
        if _metrics(request) and not which:  # path lengths only
            evaluations.pop(name, None)
            continue
        if name in evaluations and not asked:
            continue
        role = experiment.game.players[player].role
        assert isinstance(role, GeneratorRole)
        # Where generators imitate several entries, what was held out is of x.
        is_held_out = len(targets) == 1 or role.target == "x"
        shape = run.sample_shape(player)
        chosen = marked_as_given(
            scoring.extractor_named(request.extractor or experiment.extractor, shape, request.protocol or ""),
            scoring.critic_features(experiment.game),
        )
        real, description = scoring.reference(
            request.data or "",
            shape,
            experiment.source,
            n,
            batches,
            entry=role.target,
            held_out=experiment.held_out if is_held_out else None,
            value_range=range_of(read_config(run.workdir).config, request.data or ""),
            asked=_asked(experiment, player) if request.data else None,
            classes=experiment.classes,
        )
        evaluations[name] = scoring.against(
            real, extractor=chosen, split=description, which=which, seed=experiment.seed, progress=True
        ).beside(None if first is None else first.evaluations.get(name))
    if _intervals(request):
        evaluations = {
            name: evaluation.with_intervals() if hasattr(evaluation, "with_intervals") else evaluation
            for name, evaluation in evaluations.items()
        }
    return dataclasses.replace(experiment, evaluations=evaluations)


def _asked(experiment: Experiment, player: str) -> Any:
    """The labels that samples are drawn for, `None` where a generator is given none."""
    from gan_jax.evaluation.sampling import sample_labels

    conditions = experiment.evaluation_batch or experiment.condition_batch
    return sample_labels(experiment.game, player, experiment.evaluation_samples, conditions)


def _has_scores(experiment: Experiment) -> bool:
    """Whether samples are compared with real ones."""
    from gan_jax.evaluation.scoring import Against

    return any(isinstance(each, Against) for each in experiment.evaluations.values())


def _intervals(request: Request) -> bool:
    """Whether scores are to have intervals and floors.

    Raises:
      UsageError: if `--intervals` is neither yes nor no.
    """
    if request.intervals not in (None, "yes", "no"):
        raise UsageError(f"--intervals is yes or no, got {request.intervals!r}.")
    return request.intervals != "no"


def _wanted(request: Request, run: OpenedRun) -> list[int | None]:
    """The rounds to evaluate; `None` is the newest that is undamaged."""
    given = request.checkpoints
    if given is None:
        return [request.checkpoint]
    if request.checkpoint is not None:
        raise UsageError("give --checkpoint or --checkpoints, not both.")
    if given == "best" and run.experiment.best is None:
        raise UsageError(
            "--checkpoints=best needs a run that keeps the best checkpoint: --config.keep_best=METRIC."
        )
    with run.checkpoints() as checkpoints:
        steps, best = checkpoints.steps(), checkpoints.best()
    if given == "best":
        if best is None:
            raise UsageError(
                f"no checkpoint in {run.workdir.checkpoints} was evaluated yet: set evaluate_every."
            )
        return [best]
    if given == "all":
        return list(steps) or [None]
    try:
        return [int(step) for step in given.split(",")]
    except ValueError:
        raise UsageError(f"--checkpoints is all, best, or rounds as in 500,1000; got {given!r}.") from None
