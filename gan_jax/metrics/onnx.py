"""Any network in an ONNX file as an extractor, run by onnxruntime (the `onnx` extra) on the CPU."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.metrics.features import Extractor
from gan_jax.metrics.vision_inputs import IMAGENET, RULES, resized
from gan_jax.types import Array, Tree

RANGES = {
    "signed": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "bytes": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "imagenet": IMAGENET,
}
"""What a network expects of its input: [-1, 1], [0, 1], [0, 255], or the channels of ImageNet normalised."""


def onnx_extractor(
    path: str | pathlib.Path, *, resize: str = "bicubic", value_range: str = "signed"
) -> Extractor:
    """The extractor of an ONNX file's first output, flattened to `[B, D]`; its output `logits`, if there is one.

    Args:
      path: the file; weights outside of it are not read. Its one input is a batch of float32 images,
        `[B, C, H, W]` or `[B, H, W, C]`, which is read off its shape, with one or three channels and a batch of any
        size.
      resize: a name of `vision_inputs.RULES`, for a network with a fixed height and width.
      value_range: a name of `RANGES`.

    Returns:
      An `Extractor`, not differentiable. One channel is repeated to three where the network takes three.

    Raises:
      ValueError: if onnxruntime is not installed, or the file is no such network.
    """
    if value_range not in RANGES or resize not in RULES:
        raise ValueError(
            f"Unknown range {value_range!r} or resize {resize!r}: one of {', '.join(RANGES)}, and of "
            f"{', '.join(RULES)}."
        )
    session, digest = _session(path)
    channels_first, size = _layout(session, path)
    name = session.get_inputs()[0].name
    outputs = [output.name for output in session.get_outputs()]
    kinds = {"features": outputs[0], **({"logits": "logits"} if "logits" in outputs[1:] else {})}
    mean, deviation = (np.asarray(numbers, np.float32) for numbers in RANGES[value_range])

    def run(x: np.ndarray) -> list[np.ndarray]:
        made = session.run(list(kinds.values()), {name: np.asarray(x, np.float32)})
        return [np.asarray(output, np.float32).reshape(len(x), -1) for output in made]

    def apply(params: Tree, images: Array) -> dict[str, Array]:
        x = images if size is None or resize == "none" else resized(images, size, resize)
        channels = _channels(session, channels_first)
        if channels == 3 and x.shape[3] == 1:
            x = jnp.repeat(x, 3, axis=3)
        if isinstance(channels, int) and x.shape[3] != channels:
            raise ValueError(f"The network takes images of {channels} channels, got {x.shape[3]}.")
        x = ((x + 1) / 2 - mean[: x.shape[3]]) / deviation[: x.shape[3]]
        x = x.transpose(0, 3, 1, 2) if channels_first else x
        widths = [output.shape[1] for output in run(np.zeros((1, *x.shape[1:]), np.float32))]
        shapes = [jax.ShapeDtypeStruct((len(x), width), jnp.float32) for width in widths]
        return dict(zip(kinds, jax.pure_callback(run, shapes, x), strict=True))

    return Extractor(
        name=f"ONNX {pathlib.Path(path).name}",
        apply=apply,
        params={"sha256": digest},
        resize="none" if size is None else RULES[resize].format(f"{size[0]} x {size[1]}"),
        protocol=f"{resize}, {value_range}",
        stable=True,
    )


def _session(path: str | pathlib.Path) -> tuple[Any, np.ndarray]:
    """The network and the SHA-256 of its file."""
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("An ONNX file needs the package onnxruntime: pip install onnxruntime.") from None
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"There is no file {str(file)!r}.")
    content = file.read_bytes()
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # a class of its own for every status, of none but `Exception`
        raise ValueError(f"{str(file)!r} is not read as an ONNX network: {error}") from error
    return session, np.frombuffer(hashlib.sha256(content).digest(), np.uint8)


def _layout(session: Any, path: str | pathlib.Path) -> tuple[bool, tuple[int, int] | None]:
    """Whether channels come before places, and the height and width where they are fixed."""
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    channels_first = len(shape) == 4 and shape[1] in (1, 3)
    if (
        len(shape) != 4
        or not (channels_first or shape[3] in (1, 3))
        or isinstance(shape[0], int)
        or inputs[0].type != "tensor(float)"
    ):
        taken = ", ".join(f"{given.name} {given.shape} {given.type}" for given in inputs)
        raise ValueError(
            f"{str(path)!r} takes {taken}; expected one batch of float images [B, C, H, W] or [B, H, W, C], "
            "B of any size and C 1 or 3."
        )
    places = shape[2:4] if channels_first else shape[1:3]
    fixed = all(isinstance(side, int) for side in places)
    return channels_first, (places[0], places[1]) if fixed else None


def _channels(session: Any, channels_first: bool) -> int:
    channels: int = session.get_inputs()[0].shape[1 if channels_first else 3]
    return channels
