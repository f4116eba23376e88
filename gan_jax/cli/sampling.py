"""`--mode=sample`: samples of a checkpoint."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
from etils import epath

from gan_jax.cli.errors import UsageError
from gan_jax.cli.opened_run import open_run
from gan_jax.cli.request import SAMPLE_FLAGS, Request, only_its_model
from gan_jax.cli.using import IN_TURN, sample_files
from gan_jax.runs.files import write_atomically
from gan_jax.runs.terminal import tell


def sample(request: Request) -> None:
    """Writes samples of a checkpoint, and their labels, as a picture and an `.npz`, of several generators one each.

    The weights and statistics that `--weights` and `--standing_statistics` ask for are in the files' names.

    With `--sample_seeds`, `--label`, `--truncation` or `--out` files of single samples are written instead, and of
    a run of somebody's own experiment that `--config` does not name, which is sampled by its model.
    """
    if any(getattr(request, flag) is not None for flag in SAMPLE_FLAGS):
        return sample_files(request)
    if request.workdir is not None and not request.config_given and only_its_model(request.workdir):
        return sample_files(request)
    import jax

    from gan_jax.evaluation import sampling
    from gan_jax.evaluation.averages import young_average
    from gan_jax.keys import named_key
    from gan_jax.pictures.grids import to_png

    run = open_run(request)
    asked = run.experiment.picture_samples if request.num_samples is None else request.num_samples
    if asked < 1:
        raise UsageError(f"--num_samples is 1 or more, got {asked}.")
    weights, standing = run.weights(request), run.standing(request)
    (restored,) = run.restored([request.checkpoint])
    state = restored.state
    if weights != "raw" and (note := young_average(run.experiment.game, int(state.step))):
        tell(note, sys.stderr)
    in_turn = False
    for experiment, seed_state in run.per_seed(state, standing):
        key = named_key(jax.random.key(experiment.seed), "picture")
        run.workdir.samples.mkdir(parents=True, exist_ok=True)
        for player in run.generators(request.player):
            n = run.different_samples(request, experiment, player, asked, evaluates=False)
            samples = sampling.sample(
                experiment.game,
                seed_state,
                key,
                n,
                player=player,
                ema=weights != "raw",
                condition_batch=experiment.condition_batch,
            )
            name = f"_{player}" if len(run.generators(None)) > 1 else ""
            name += f"_seed_{experiment.seed}" if run.experiment.seeds > 1 else ""
            name += "" if weights is None else f"_{weights}"
            name += "" if standing is None else f"_standing_{standing}"
            stem = run.workdir.samples / f"sampled_{int(state.step):08d}{name}"
            write_atomically(epath.Path(f"{stem}.png"), to_png(experiment.picture_of(player)(samples)))
            packed = io.BytesIO()
            arrays: dict[str, Any] = {"x": samples}
            labels = sampling.sample_labels(experiment.game, player, n, experiment.condition_batch)
            if labels is not None:
                arrays["y"] = labels
                if experiment.evaluation_batch is not None:
                    scored = sampling.sample_labels(experiment.game, player, n, experiment.evaluation_batch)
                    in_turn |= scored is not None and _differ(labels, scored)
            np.savez_compressed(packed, **arrays)
            write_atomically(epath.Path(f"{stem}.npz"), packed.getvalue())
            tell(f"{n} samples of round {int(state.step)}: {stem}.png and {stem}.npz")
    if in_turn:
        tell(IN_TURN, sys.stderr)


def _differ(labels: np.ndarray, others: np.ndarray) -> bool:
    """Whether some class is more than once more often in one of two arrays of as many labels."""
    classes, numbers = np.unique([labels, others], return_inverse=True)
    counts = [np.bincount(each, minlength=len(classes)) for each in numbers.reshape(2, -1)]
    return bool(np.abs(counts[0] - counts[1]).max() > 1)
