"""Statistics files: a mean and a covariance of features in a `.npz`, as the field's tools exchange them.

`mu` and `sigma` are those of pytorch-fid, clean-fid and EDM; ADM's reference batches also have `mu_s` and `sigma_s`
(of spatial features) and images `arr_0`. None of them records how it was made, so whoever uses one names its
protocol. Files that are written here have another entry, `gan_jax`, that records it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from gan_jax.data.array_files import ArrayFile, list_arrays
from gan_jax.data.errors import DataError
from gan_jax.files import reason, write_atomically
from gan_jax.metrics.features import Extractor, Features
from gan_jax.metrics.gaussians import Gaussian, Moments, check_gaussian

RECORD = "gan_jax"
"""The name of the entry that records how statistics were made, a line of JSON."""
_GIVEN = ", given to the critic"
"""What `marked_as_given` appends to an extractor's name."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """What a statistics file holds.

    Attributes:
      name: the file's name.
      gaussian: the mean and the covariance of the features.
      spatial: those of the spatial features; `None` if the file has none.
      record: how they were made, by name (extractor, protocol, number and others); empty if the file
        does not say it.
    """

    name: str
    gaussian: Gaussian
    spatial: Gaussian | None = None
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def check(self, features: Features, ddof: int) -> None:
        """Checks that the statistics can be compared with features, as far as the record says how they were made.

        Raises:
          DataError: if the dimensions differ, or the record says another extractor, protocol or covariance.
        """
        dimension = features.features.shape[1]
        if len(self.gaussian.mean) != dimension:
            raise DataError(
                f"The statistics {self.name!r} are of {len(self.gaussian.mean)} dimensions, the features of "
                f"{features.extractor.name!r} of {dimension}: name the extractor that made the file."
            )
        for field, value in {**_matched(features.extractor), "ddof": ddof}.items():
            if field in self.record and self.record[field] != value:
                raise DataError(
                    f"The statistics {self.name!r} were made with {field} {self.record[field]!r}, and this "
                    f"comparison has {value!r}: use the same, or make the statistics again."
                )


def _matched(extractor: Extractor) -> dict[str, str]:
    """The fields of a record in which statistics and features must agree to be compared.

    The same features were given to a critic or not: that mark is of a comparison.
    """
    return {
        "extractor": extractor.name.removesuffix(_GIVEN),
        "weights": extractor.weights,
        "protocol": extractor.protocol,
        "resize": extractor.resize,
    }


def is_statistics(path: pathlib.Path) -> bool:
    """Whether a file is a `.npz` with a mean and a covariance.

    Raises:
      DataError: if it is a `.npz` that cannot be read.
    """
    return path.suffix == ".npz" and path.is_file() and {"mu", "sigma"} <= list_arrays(path).keys()


def read_statistics(path: str | pathlib.Path) -> Statistics:
    """Reads a statistics file.

    Raises:
      DataError: if it is no such file, it is damaged, or its arrays are no mean and covariance.
    """
    file = pathlib.Path(path).expanduser()
    if file.suffix == ".pkl":
        raise DataError(
            f"{str(path)!r} is pickled, and can run code when it is read: where you trust it, convert it once "
            'with its own tools: numpy.savez("stats.npz", mu=..., sigma=...).'
        )
    arrays = list_arrays(file)
    if not {"mu", "sigma"} <= arrays.keys():
        raise DataError(
            f"{str(path)!r} has the arrays {', '.join(sorted(arrays))}: statistics are mu and sigma."
        )
    record: Mapping[str, Any] = {}
    if RECORD in arrays:
        try:
            record = dict(json.loads(str(arrays[RECORD].read()[0])))
        except (ValueError, TypeError, IndexError, RecursionError) as error:
            raise DataError(f"The record of {str(path)!r} is damaged: {error}.") from error
        if type(number := record.get("number", 0)) is not int or not 0 <= number < 2**63:
            raise DataError(f"The record of {str(path)!r} is damaged: its number of images is {number!r}.")
    spatial = None
    if {"mu_s", "sigma_s"} <= arrays.keys():
        spatial = _gaussian(str(path), arrays, "mu_s", "sigma_s")
    return Statistics(
        name=str(path),
        gaussian=_gaussian(str(path), arrays, "mu", "sigma"),
        spatial=spatial,
        record=record,
    )


def _gaussian(name: str, arrays: Mapping[str, ArrayFile], mean: str, covariance: str) -> Gaussian:
    shapes = arrays[mean].shape, arrays[covariance].shape
    if len(shapes[0]) != 1 or not shapes[0][0] or shapes[1] != shapes[0] * 2:
        raise DataError(
            f"{name!r}: {mean} has shape {shapes[0]} and {covariance} {shapes[1]}; expected [D] and [D, D]."
        )
    if any(arrays[part].dtype.kind not in "fiu" for part in (mean, covariance)):
        raise DataError(f"{name!r}: {mean} and {covariance} are no numbers.")
    stored = Gaussian(*(arrays[part].read() for part in (mean, covariance)))
    try:
        return check_gaussian(stored, f"{name!r}, {mean} and {covariance}")
    except ValueError as error:
        raise DataError(str(error)) from error


def check_statistics_path(path: str | pathlib.Path) -> None:
    """Checks that statistics can be written to a path, as far as that is known before they are there.

    Raises:
      DataError: if the name does not end in `.npz`, or there is no such folder.
    """
    file = pathlib.Path(path).expanduser()
    if file.suffix != ".npz":
        raise DataError(f"Statistics are written as .npz, got {str(path)!r}.")
    if not file.parent.is_dir():
        raise DataError(
            f"The statistics {str(path)!r} cannot be written: there is no folder {str(file.parent)!r}."
        )


def refuse_others(path: str | pathlib.Path) -> None:
    """Checks that statistics of a set that is compared replace earlier ones of ours, and no images.

    Raises:
      DataError: if there is another file.
    """
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        return
    try:
        names = set(list_arrays(file))
    except DataError:
        names = set()
    if RECORD not in names or not names <= {"mu", "sigma", "mu_s", "sigma_s", RECORD}:
        raise DataError(
            f"{str(path)!r} is there, and no statistics that were saved by a comparison: move it, or name another "
            "file for the statistics."
        )


def write_statistics(
    path: str | pathlib.Path,
    moments: Moments,
    features: Features,
    *,
    spatial: Moments | None = None,
    ddof: int = 1,
    split: str = "unnamed",
) -> None:
    """Writes moments as a statistics file that other tools read, with a record of how they were made.

    Args:
      path: the `.npz` to write; an existing one is replaced.
      moments: the moments of the features of all images.
      features: features of the same images, for the record.
      spatial: the moments of their spatial features, written as `mu_s` and `sigma_s`; nothing by default.
      ddof: the covariance divides by N - ddof.
      split: a description of the images.

    Raises:
      DataError: if the name does not end in `.npz`, or the file cannot be written.
    """
    check_statistics_path(path)
    file = pathlib.Path(path).expanduser()
    gaussian = moments.gaussian(ddof)
    record = {
        **_matched(features.extractor),
        "number": moments.number,
        "ddof": ddof,
        "split": split,
        "data": features.data,
        "value_range": features.value_range,
        **features.computation._asdict(),
    }
    arrays = {"mu": gaussian.mean, "sigma": gaussian.covariance, RECORD: np.array([json.dumps(record)])}
    if spatial is not None:
        places = spatial.gaussian(ddof)
        arrays |= {"mu_s": places.mean, "sigma_s": places.covariance}
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    try:
        write_atomically(file, packed.getvalue())
    except OSError as error:
        raise DataError(f"The statistics {str(path)!r} cannot be written: {reason(error)}.") from error
