"""TFDS's builders, asked without TensorFlow and without TFDS's warnings."""

from __future__ import annotations

import contextlib
import difflib
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

from gan_jax.data.errors import DataError


def builder(name: str, data_dir: str | pathlib.Path | None = None) -> Any:
    """TFDS's builder of `name` (`mnist`, `mnist:3.0.1`, `name/config`), whether or not it is prepared.

    Raises:
      DataError: if TFDS does not know the name or the version.
    """
    import tensorflow_datasets as tfds

    try:
        with quiet():
            return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(name.split("/")[0].split(":")[0], known, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise DataError(
            f"TFDS has no data set {name!r} and there is none prepared under that name (looked in "
            f"{data_dir or tfds.core.constants.DATA_DIR}){hint}"
        ) from error
    except Exception as error:  # TFDS raises assertions and key errors for versions and configs.
        raise DataError(f"TFDS cannot open {name!r}: {str(error).splitlines()[0]}") from error


def is_prepared(builder: Any) -> bool:
    """Whether the data are on disk in a format with random access."""
    from tensorflow_datasets.core import file_adapters

    with quiet():
        on_disk = builder.is_prepared()
    return on_disk and builder.info.file_format in file_adapters.FileFormat.with_random_access()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without TFDS's warning of a data set that is not there yet: the error that follows says it better."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        yield
    finally:
        absl.setLevel(level)
