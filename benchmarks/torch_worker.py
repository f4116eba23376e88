"""PyTorch's side of every game, as a worker; needs PyTorch and nothing of the project but this folder."""

from __future__ import annotations

import base64
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import harness, torch_networks, torch_r3gan, torch_stylegan2
from benchmarks.torch_play import (
    TorchGame,
    average_of,
    count_flops,
    make_optimizer,
    options_of,
    parameter_counts,
)

SLOPE = 0.2


class Scores(nn.Module):
    """The score `[B]` of the last hidden layer."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 1)

    def forward(self, h: Tensor) -> Tensor:
        return self.linear(h)[:, 0]


class Unflatten(nn.Module):
    """`[B, base * base * C]` to images `[B, C, base, base]` in channels-last memory, without a copy."""

    def __init__(self, base: int) -> None:
        super().__init__()
        self.base = base

    def forward(self, h: Tensor) -> Tensor:
        return h.view(len(h), self.base, self.base, -1).permute(0, 3, 1, 2)


class Flatten(nn.Module):
    """Images in channels-last memory to `[B, H * W * C]`, without a copy."""

    def forward(self, h: Tensor) -> Tensor:
        return h.permute(0, 2, 3, 1).flatten(1)


def perceptron(sizes: list[int], activation: nn.Module, *, norm: bool = False) -> list[nn.Module]:
    """Hidden layers of the given sizes."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers.append(nn.Linear(inputs, outputs, bias=not norm))
        layers += [nn.BatchNorm1d(outputs)] if norm else []
        layers.append(activation)
    return layers


def dcgan_generator(spec: dict[str, Any]) -> nn.Module:
    """See `gan_jax.networks.DCGANGenerator`."""
    base, stages = spec["sizes"][-1], len(spec["sizes"]) - 1
    channels = [spec["width"] * 2**stage for stage in range(stages)][::-1]
    layers: list[nn.Module] = [
        nn.Linear(spec["latent"], base * base * channels[0], bias=False),
        Unflatten(base),
    ]
    for inputs, outputs in itertools.pairwise(channels):
        layers += [nn.BatchNorm2d(inputs), nn.ReLU()]
        layers.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False))
    layers += [nn.BatchNorm2d(channels[-1]), nn.ReLU()]
    layers += [nn.ConvTranspose2d(channels[-1], spec["channels"], 4, stride=2, padding=1), nn.Tanh()]
    return nn.Sequential(*layers)


def dcgan_critic(spec: dict[str, Any]) -> nn.Module:
    """See `gan_jax.networks.DCGANCritic`."""
    base, stages = spec["sizes"][-1], len(spec["sizes"]) - 1
    channels = [spec["channels"], *(spec["width"] * 2**stage for stage in range(stages))]
    layers: list[nn.Module] = []
    for stage, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
        normed = stage > 0 and spec["critic_norm"] == "batch"
        layers.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=not normed))
        layers += [nn.BatchNorm2d(outputs)] if normed else []
        layers.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*layers, Flatten(), Scores(base * base * channels[-1]))


def build(spec: dict[str, Any]) -> Any:
    """The game that a `games.Spec` describes."""
    if spec["kind"] in ("Pix2Pix", "StyleGAN2"):
        return {"Pix2Pix": build_pix2pix, "StyleGAN2": build_stylegan2}[spec["kind"]](spec)
    batch, latent, objective = spec["batch_size"], spec["latent"], spec["objective"]
    networks = {
        "Ring": ring_networks,
        "Digits": digits_networks,
        "DCGAN": dcgan_networks,
        "SNGAN": sngan_networks,
        "R3GAN": r3gan_networks,
    }
    generator, critic = networks[spec["kind"]](spec)
    real = ring_data(spec) if spec["kind"] == "Ring" else image_data(spec)
    mix = (batch, 1) if spec["kind"] == "Ring" else (batch, 1, 1, 1)
    optimizers = tuple(
        make_optimizer(objective, network.parameters(), spec["torch_optimizer"], spec["learning_rate"])
        for network in (generator, critic)
    )
    make = torch_r3gan.R3GANGame if spec["kind"] == "R3GAN" else TorchGame
    return make(
        objective=objective,
        n_critic=spec["n_critic"],
        generator=generator,
        critic=critic,
        optimizers=(optimizers[0], optimizers[1]),
        real=real,
        latent=lambda: torch.randn(batch, latent),
        mix=lambda: torch.rand(mix),
        r1=spec["r1"],
        average=average_of(generator, spec["ema"]),
    )


def build_pix2pix(spec: dict[str, Any]) -> torch_networks.Pix2Pix:
    """See `games.Pix2Pix`."""
    width, channels = spec["width"], spec["channels"]
    generator, critic = torch_networks.channels_last(
        torch_networks.UNet(1, channels, width), torch_networks.patch_critic(channels + 1, width)
    )
    optimizers = [
        make_optimizer("pix2pix", network.parameters(), spec["torch_optimizer"], spec["learning_rate"])
        for network in (generator, critic)
    ]
    both = image_data({**spec, "channels": channels + 1})

    def pairs() -> tuple[Tensor, Tensor]:
        images = both()
        return images[:, channels:], images[:, :channels]

    return torch_networks.Pix2Pix(generator, critic, (optimizers[0], optimizers[1]), pairs)


def build_stylegan2(spec: dict[str, Any]) -> torch_stylegan2.StyleGAN2Game:
    """See `games.StyleGAN2`."""
    sizes, widths = spec["sizes"], spec["widths"]
    generator, critic = torch_networks.channels_last(
        torch_stylegan2.Generator(
            spec["latent"], spec["style"], sizes, widths, spec["channels"], spec["layers"], spec["mixing"]
        ),
        torch_stylegan2.Critic(sizes, widths, spec["channels"]),
    )
    rate, options = spec["learning_rate"], options_of(spec["torch_optimizer"])
    optimizers = (
        torch_stylegan2.lazy_adam(generator, rate, spec["path_every"], **options),
        torch_stylegan2.lazy_adam(critic, rate, spec["r1_every"], **options),
    )
    batch, latent = spec["batch_size"], spec["latent"]
    return torch_stylegan2.StyleGAN2Game(
        generator,
        critic,
        optimizers,
        real=image_data(spec),
        latent=lambda: torch.randn(batch, latent),
        **{name: spec[name] for name in ("r1", "path", "r1_every", "path_every", "ema")},
    )


def r3gan_networks(spec: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """Residual networks in channels-last memory."""
    shape = [spec[name] for name in ("sizes", "channels", "width", "blocks", "group_size")]
    return torch_networks.channels_last(
        torch_r3gan.Generator(spec["latent"], *shape), torch_r3gan.Critic(*shape)
    )


def sngan_networks(spec: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """Residual networks in channels-last memory."""
    generator = torch_networks.ResNetGenerator(spec["latent"], spec["width"], spec["channels"])
    return torch_networks.channels_last(
        generator, torch_networks.ResNetCritic(spec["width"], spec["channels"])
    )


def ring_networks(spec: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """Perceptrons with ReLU."""
    width = spec["width"]
    generator = perceptron([spec["latent"], width, width], nn.ReLU())
    critic = perceptron([2, width, width], nn.ReLU())
    return nn.Sequential(*generator, nn.Linear(width, 2)), nn.Sequential(*critic, Scores(width))


def digits_networks(spec: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """Perceptrons of 8 x 8 images."""
    width = spec["width"]
    generator = perceptron([spec["latent"], width, width], nn.ReLU(), norm=True)
    critic = perceptron([64, width, width], nn.LeakyReLU(SLOPE))
    return (
        nn.Sequential(*generator, nn.Linear(width, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8))),
        nn.Sequential(nn.Flatten(), *critic, Scores(width)),
    )


def dcgan_networks(spec: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """Convolutions in channels-last memory."""
    generator, critic = dcgan_generator(spec), dcgan_critic(spec)
    return generator.to(memory_format=torch.channels_last), critic.to(memory_format=torch.channels_last)


def ring_data(spec: dict[str, Any]) -> Any:
    """Draws points of the ring."""
    batch, modes = spec["batch_size"], spec["modes"]
    angles = 2 * math.pi * torch.arange(modes) / modes
    means = spec["radius"] * torch.stack([angles.cos(), angles.sin()], dim=1)
    return lambda: means[torch.randint(modes, (batch,))] + spec["sigma"] * torch.randn(batch, 2)


def image_data(spec: dict[str, Any]) -> Any:
    """Draws images of noise, held as floats in channels-last memory."""
    batch = spec["batch_size"]
    size, channels = (8, 1) if spec["kind"] == "Digits" else (spec["size"], spec["channels"])
    examples = spec.get("examples", 1797)
    images = torch.rand(examples, size, size, channels) * 2 - 1
    return lambda: images[torch.randint(examples, (batch,))].permute(0, 3, 1, 2)


def replay(
    game: Any,
    start: dict[str, Any],
    draws: list[dict[str, Any]],
    after: dict[str, Any],
    noise: dict[str, Any],
    **_: Any,
) -> dict[str, Any]:
    """Plays one round from given parameters on given draws.

    Args:
      game: whose networks and optimisers are fresh.
      start, after: of each player, its parameters before and after the round, as `jax_worker.replay` has them.
      draws: `x`, `latent` and what else every turn draws.
      noise: of the layers that add some, by their place.

    Returns:
      The losses of every turn, and the largest difference of a parameter from `after`.
    """
    networks = {"generator": game.generator, "critic": game.critic}
    with torch.no_grad():
        for player, network in networks.items():
            for parameter, value in _matched(network, start[player]):
                parameter.copy_(value)
    if noise:
        fixed = {int(place): _decode(values) for place, values in noise.items()}
        game.generator.noise = lambda place, h: fixed[place].reshape(1, 1, *h.shape[2:])
    losses = []
    for move, draw in zip(game.moves(), draws, strict=True):
        for name, value in draw.items():
            setattr(game, {"x": "real"}.get(name, name), _constant(_images(_decode(value))))
        losses.append(move.play().item())
    difference = max(
        (parameter - value).abs().max().item()
        for player, network in networks.items()
        for parameter, value in _matched(network, after[player])
    )
    return {"losses": losses, "difference": difference}


def _constant(x: Tensor) -> Callable[..., Tensor]:
    return lambda *_: x


def _matched(network: Any, named: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
    """Pairs of a network's parameters and their values, which are named by their paths, in PyTorch's layout."""
    if hasattr(network, "flax_name"):
        return _matched_by_name(network, named)
    layers: dict[tuple[str, ...], dict[str, Tensor]] = {}
    for path, array in named.items():
        *parents, name = path.split("/")
        layers.setdefault(tuple(parents), {})[name] = _decode(array)
    ordered = [layers[path] for path in sorted(layers, key=_place)]
    weights = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    norms = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    pairs = []
    for module, layer in zip(weights, [layer for layer in ordered if "kernel" in layer], strict=True):
        pairs.append((module.weight, _kernel(module, layer["kernel"])))
        pairs += [(module.bias, layer["bias"])] if "bias" in layer else []
    for module, layer in zip(norms, [layer for layer in ordered if "kernel" not in layer], strict=True):
        pairs += [(module.weight, layer["scale"]), (module.bias, layer["bias"])]
    return pairs


def _place(path: tuple[str, ...]) -> tuple[bool, int, int]:
    """The sort key of a layer: hidden before last, dense before convolutions, then by number."""
    last = path[0] in ("out", "scores", "score")
    kind, _, number = next((part for part in path if part[-1].isdigit()), "_0").rpartition("_")
    return last, int(kind != "Dense"), int(number)


def _matched_by_name(network: Any, named: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
    """The same of a network that knows its parameters' paths."""
    parameters = {network.flax_name(name): parameter for name, parameter in network.named_parameters()}
    if parameters.keys() != named.keys():
        raise ValueError(f"Parameters of one side only: {sorted(parameters.keys() ^ named.keys())}.")
    pairs = []
    for name, parameter in parameters.items():
        value = _decode(named[name])
        if value.ndim == 4 and name.startswith("up_"):
            value = _transposed_kernel(value)
        elif value.ndim == 4:
            value = value.permute(3, 2, 0, 1)
        elif value.ndim == 3:
            value = value.permute(2, 0, 1)
        elif value.ndim == 2:
            value = value.T
        pairs.append((parameter, value))
    return pairs


def _transposed_kernel(kernel: Tensor) -> Tensor:
    """Flax's transposed convolution slides its kernel as it is, PyTorch's is a convolution's gradient."""
    return kernel.flip(0, 1).permute(2, 3, 0, 1)


def _kernel(module: nn.Module, kernel: Tensor) -> Tensor:
    if isinstance(module, nn.ConvTranspose2d):
        return _transposed_kernel(kernel)
    return kernel.permute(3, 2, 0, 1) if isinstance(module, nn.Conv2d) else kernel.T


def _decode(array: dict[str, Any]) -> Tensor:
    flat = torch.frombuffer(bytearray(base64.b64decode(array["data"])), dtype=torch.float32)
    return flat.reshape(array["shape"])


def _images(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


def set_threads(game: Any, wanted: int, seconds: float = 1.0) -> None:
    """Uses `wanted` threads, or with 0 what plays faster, one or all."""
    if wanted:
        torch.set_num_threads(wanted)
        return
    rates = {}
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        game.play(3)
        rounds, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            game.play(1)
            rounds += 1
        rates[threads] = rounds / (time.perf_counter() - start)
    torch.set_num_threads(max(rates, key=lambda threads: rates[threads]))


def prepared_for(game: Any, device: str, dtype: str) -> Callable[[int], dict[str, float]]:
    """How rounds are played on a device: on a GPU every move as a captured graph, in bfloat16 under autocast.

    Optimisers are made capturable there. A double backward cannot be compiled by PyTorch, and can be captured.
    """
    mixed = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16", cache_enabled=False)

    def play(rounds: int) -> dict[str, float]:
        with mixed:
            return game.play(rounds)

    if device != "cuda":
        return play
    for optimizer in game.optimizers:
        for group in optimizer.param_groups:
            group["capturable"] = True
    moves = list(dict.fromkeys(game.moves()))
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside), mixed:  # buffers and states are made before anything is captured
        for _ in range(3):
            for move in moves:
                move.play()
    torch.cuda.current_stream().wait_stream(aside)
    graphs: dict[Any, torch.cuda.CUDAGraph] = {}
    losses: dict[str, Tensor] = {}
    for move in moves:
        graphs[move] = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graphs[move]), mixed:
            losses[move.loss] = move.play()

    def replayed(rounds: int) -> dict[str, float]:
        for _ in range(rounds):
            for move in game.moves():
                if game.played % move.every == 0:
                    graphs[move].replay()
            game.played += 1
        torch.cuda.synchronize()
        return {name: round(loss.item(), 4) for name, loss in losses.items()}

    return replayed


def main() -> None:
    """Serves rounds of the game that the first argument describes."""
    imported = harness.peak_memory()["peak_mb"]
    spec = json.loads(sys.argv[1])
    torch.set_default_device(spec.get("device", "cpu"))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # as JAX has it by default
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(spec["seed"])
    if spec.get("device", "cpu") == "cpu":
        set_threads(build(spec), spec["threads"])
    game = build(spec)
    on_device = prepared_for(game, spec.get("device", "cpu"), spec.get("dtype", "float32"))
    harness.serve(
        {
            "torch": torch.__version__,
            "import_mb": imported,
            "threads": torch.get_num_threads(),
            "parameters": parameter_counts(game),
            "device": spec.get("device", "cpu"),
            "dtype": spec.get("dtype", "float32"),
        },
        on_device,
        replay=lambda **arguments: replay(build(spec), **arguments),
        flops=lambda: count_flops(build(spec)),
    )


if __name__ == "__main__":
    main()
