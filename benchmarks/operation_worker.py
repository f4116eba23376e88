"""One operation of a network, ours or PyTorch's, as a worker: a round is one execution."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import harness

Play = Callable[[int], Any]
"""Executes the operation so many times and returns the last result, as an array in our layout."""


def operands(spec: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image `[B, H, H, I]`, a kernel `[k, k, I / groups, O]` and a gradient `[B, H / s, H / s, O]`, of noise."""
    rng, smaller = np.random.default_rng(0), spec["size"] // spec["stride"]
    inputs, outputs, taps = spec["inputs"], spec["outputs"], spec["kernel"]
    shapes = (
        (spec["batch"], spec["size"], spec["size"], inputs),
        (taps, taps, inputs // spec["groups"], outputs),
        (spec["batch"], smaller, smaller, outputs),
    )
    x, w, g = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return x, w, g


def ours(spec: dict[str, Any]) -> Play:
    """`gan_jax.networks.convolution` in a loop, as in a program of many rounds."""
    import jax
    import jax.numpy as jnp

    from gan_jax.compiler import compiler_options
    from gan_jax.networks.convolution import conv

    x, w, g = (jnp.asarray(array) for array in operands(spec))

    def convolve(x: Any, w: Any) -> Any:
        return conv(x, w, strides=spec["stride"], groups=spec["groups"])

    def by_input(g: Any, w: Any) -> Any:
        return jax.vjp(lambda x: convolve(x, w), x)[1](g)[0]

    def by_kernel(x: Any, g: Any) -> Any:
        return jax.vjp(lambda w: convolve(x, w), w)[1](g)[0]

    operation, first, second = {
        "convolution": (convolve, x, w),
        "by input": (by_input, g, w),
        "by kernel": (by_kernel, x, g),
    }[spec["operation"]]

    def repeated(first: Any, second: Any, times: Any) -> Any:
        def again(_: Any, first: Any) -> Any:
            # Each execution reads a number of the one before, so that none is left out.
            out = jax.lax.optimization_barrier(operation(first, second))
            return first.at[(0,) * first.ndim].add(1e-30 * out[(0,) * out.ndim])

        return operation(jax.lax.fori_loop(1, times, again, first), second)

    run = jax.jit(repeated, compiler_options=compiler_options())
    return lambda rounds: jax.block_until_ready(run(first, second, rounds))


def torchs(spec: dict[str, Any]) -> Play:
    """PyTorch's own convolution and its gradients, in channels-last memory."""
    import torch
    from torch.nn import functional as F
    from torch.nn import grad

    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    x, w, g = operands(spec)
    image, slope = (torch.from_numpy(a).permute(0, 3, 1, 2) for a in (x, g))
    kernel = torch.from_numpy(w).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    window = {"stride": spec["stride"], "padding": (spec["kernel"] - 1) // 2, "groups": spec["groups"]}
    operation = {
        "convolution": lambda: F.conv2d(image, kernel, **window),
        "by input": lambda: grad.conv2d_input(image.shape, kernel, slope, **window),
        "by kernel": lambda: grad.conv2d_weight(image, kernel.shape, slope, **window),
    }[spec["operation"]]
    ours_axes = (2, 3, 1, 0) if spec["operation"] == "by kernel" else (0, 2, 3, 1)

    def play(rounds: int) -> Any:
        with torch.no_grad():
            for _ in range(rounds):
                out = operation()
        return out.permute(*ours_axes).numpy()

    return play


def main() -> None:
    """Serves executions, and a part of the result by `sample`."""
    spec = json.loads(sys.argv[1])
    run = {"ours": ours, "torch": torchs}[spec["who"]](spec)

    def play(rounds: int) -> dict[str, Any]:
        run(rounds)
        return {}

    def sample() -> dict[str, Any]:
        return {"sample": np.asarray(run(1)).ravel()[::97].tolist()[:4096]}

    harness.serve({"who": spec["who"]}, play, sample=sample)


if __name__ == "__main__":
    main()
