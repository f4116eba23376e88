"""What a run reads, in a line for the user."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from gan_jax.data.label_files import are_splits
from gan_jax.data.source import Source
from gan_jax.distributed import hosts

_NAMED = 12
"""Classes whose names are said."""


def described(source: Source, classes: Sequence[str] = ()) -> str:
    """What a source gives: how many examples, of which shapes, in batches of which size.

    A batch is read to see its shapes, unless that would take it from a stream, or have each of several processes
    read all examples of the batch.

    Args:
      source: the data.
      classes: the names of the classes that labels number.

    >>> from gan_jax.data import from_arrays
    >>> source = from_arrays({"x": np.zeros((20, 8, 8, 1)), "y": np.arange(20) % 3}, batch_size=5)
    >>> described(source)
    'Data: 20 examples x [8, 8, 1], y of 3 classes; 4 batches of 5 an epoch.'
    >>> described(source, ("cat", "dog", "fish"))
    'Data: 20 examples x [8, 8, 1], y of 3 classes (cat, dog, fish); 4 batches of 5 an epoch.'
    >>> described(source, ("test", "train", "val")).rpartition("epoch. ")[2]
    'The folders test, train, val are read as classes: to train on one, give its path.'
    """
    count = "examples without end" if source.size is None else f"{source.size:,} examples"
    entries = []
    on_device = bool(jax.tree.leaves(source.device_data))
    if not source.in_order and (on_device or not hosts.several()):
        host_batch = jax.tree.map(lambda x: x[0], source.host_batches(0, 1))
        batch = jax.eval_shape(source.get_batch, source.device_data, host_batch)
        for name, entry in batch.items():
            for leaf in jax.tree.leaves(entry):
                entries.append(_entry(name, leaf, source, classes))
    batches = f"batches of {source.batch_size}"
    if source.size is not None:
        batches = f"{source.size // source.batch_size:,} {batches} an epoch"
    said = f"Data: {' '.join(filter(None, [count, ', '.join(entries)]))}; {batches}."
    if are_splits(classes):
        said += f" The folders {', '.join(classes)} are read as classes: to train on one, give its path."
    return said


def _entry(name: str, leaf: jax.ShapeDtypeStruct, source: Source, classes: Sequence[str]) -> str:
    if np.issubdtype(leaf.dtype, np.integer) and leaf.ndim == 1:
        count = _classes(name, source)
        said = f"{count} classes" if count else "classes"
        shown = ", ".join([*classes[:_NAMED], *(["..."] if len(classes) > _NAMED else [])])
        return f"{name} of {said} ({shown})" if classes else f"{name} of {said}"
    return f"{name} [{', '.join(map(str, leaf.shape[1:]))}]"


def _classes(name: str, source: Source) -> int:
    """How many values a label on the device has; 0 where it is not there."""
    found = [
        np.unique(np.asarray(leaf)).size
        for path, leaf in jax.tree.leaves_with_path(source.device_data)
        if jax.tree_util.keystr(path, simple=True, separator=".").split(".")[-1] == name
    ]
    return found[0] if found else 0
