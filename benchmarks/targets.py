"""Devices that are not there, for which programs are compiled all the same: the vendors' compilers run anywhere.

TPUs need the package libtpu (`pip install -e '.[accelerators]'`), H100s the plugin of JAX for CUDA, whose wheels
have gigabytes (`pip install 'jax-cuda13-plugin[with-cuda]'`, without a GPU as well).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

H100 = pathlib.Path(__file__).parent / "h100.textproto"
"""What the CUDA compiler reads off a card, as XLA writes it for an H100."""
TARGETS = ("v5e-1", "v5e-4", "v5e-2x4", "h100-1", "h100-8")
"""One v5e chip, four of one slice, two slices of four; one H100, and the eight of a node."""


class TargetError(RuntimeError):
    """The compiler of a target that is not installed; the message says how to get it."""


def devices_of(target: str) -> Sequence[jax.Device]:
    """The devices of one of `TARGETS`, to be compiled for.

    Raises:
      TargetError: if its compiler is not installed.
    """
    from jax.experimental import topologies

    name, _, size = target.partition("-")
    if name == "v5e":
        if importlib.util.find_spec("libtpu") is None:
            raise TargetError("the TPU compiler is not installed: pip install -e '.[accelerators]'")
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # no machine to ask about its chips
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        slices: dict[str, Any] = {"num_slices": 2} if size == "2x4" else {}
        devices = topologies.get_topology_desc("v5e:2x2", "tpu", **slices).devices
        return devices[:1] if size == "1" else devices
    if importlib.util.find_spec("jax_cuda13_plugin") is None:
        raise TargetError(
            "the CUDA compiler is not installed: pip install 'jax-cuda13-plugin[with-cuda]' of JAX's version"
        )
    _register_cuda()
    config = H100.read_text()
    return topologies.get_topology_desc("", "cuda", target_config=config, topology=f"1x1x{size}").devices


def _register_cuda() -> None:
    """Makes JAX know the CUDA plugin, which it leaves out where it sees no GPU; no public function does."""
    from jax._src import xla_bridge
    from jax_plugins import xla_cuda13

    if "cuda" not in xla_bridge.backends():
        library = pathlib.Path(str(xla_cuda13.__file__)).parent / "xla_cuda_plugin.so"
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # it has been loaded already
            xla_bridge.register_plugin("cuda", library_path=str(library))
