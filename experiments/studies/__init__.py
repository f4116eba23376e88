"""Studies: what the literature's figures show, shown again, with seeds, intervals and a picture.

    python -m experiments.studies                        # the studies and the minutes that they take
    python -m experiments.studies --claims               # their claims, with the last results
    python -m experiments.studies --check                # which results are older than the code
    python -m experiments.studies dirac f_gan_fit        # run these, resuming seed by seed
    python -m experiments.studies ratios --jobs 1        # in one process; by default one for each core
    python -m experiments.studies all --quick            # all of them, small, with looser claims: minutes
    python -m experiments.studies NAME --full            # at its paper's scale, where the study is scaled down
    python -m experiments.studies dirac --set step=.05   # with another number of its own; its claims are not judged
    python -m experiments.studies dirac --figures --format=svg --size=1920x1080  # drawn again from what is stored
    python -m experiments.studies one_dimension --film=line.mp4  # its frames, likewise
    python -m experiments.studies --gallery              # docs/gallery.md from the stored results

A study is one file here with a `STUDY`. A claim that does not hold makes the command exit with 1 and say by how
much it was missed, unless the study says that it does not reproduce.
"""

from __future__ import annotations

import importlib
import pathlib
from collections.abc import Mapping

from experiments.studies.framework import changes
from experiments.studies.framework.study import Study

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"


def names() -> list[str]:
    """The studies there are, in the order of the gallery."""
    files = (path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    return sorted(files, key=lambda name: (load(name).place, name))


def load(name: str, changed: Mapping[str, float] | None = None) -> Study:
    """The study in `experiments/studies/NAME.py`.

    Args:
      name: the study's.
      changed: numbers of its own that are others than in its file, by name.

    Raises:
      KeyError: if there is no such file.
      ChangeError: if it has no number of such a name.
    """
    path = HERE / f"{name}.py"
    if name.startswith("_") or not path.is_file():
        raise KeyError(name)
    module = f"experiments.studies.{name}"
    if changed:
        return changes.load(path, module, changed).STUDY
    return importlib.import_module(module).STUDY
