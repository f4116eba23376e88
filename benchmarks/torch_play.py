"""The PyTorch side: eager training loops of the same games, written as a careful PyTorch user writes them.

Fakes are made under `no_grad` in the critic's turn; the critic is frozen in the generator's, so no gradient of its
parameters is computed; gradients are set to None; the optimisers are PyTorch's fastest. Nothing is logged and no
loss is fetched while rounds are timed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import swa_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

WGAN_LEARNING_RATE, CLIP = 5e-5, 0.01
BETAS = {"wgan_gp": (0.0, 0.9), "r3gan": (0.0, 0.99)}
"""Of Adam, by objective."""
PENALTY = 10.0
OPTIMIZERS = ("fused", "foreach", "default")

Draw = Callable[[], Tensor]
ScoreLoss = Callable[..., Tensor]


def _minus_log_d_critic(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def _wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


CRITIC_LOSSES: dict[str, ScoreLoss] = {
    "non_saturating": _minus_log_d_critic,
    "wgan": _wasserstein_critic,
    "wgan_gp": _wasserstein_critic,
    "hinge": lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
}
GENERATOR_LOSSES: dict[str, ScoreLoss] = {
    "non_saturating": lambda fake: F.softplus(-fake).mean(),
    "wgan": lambda fake: -fake.mean(),
    "wgan_gp": lambda fake: -fake.mean(),
    "hinge": lambda fake: -fake.mean(),
}


class Move(NamedTuple):
    """A part of a round.

    Attributes:
      loss: the name of its loss.
      play: takes one step of an optimiser and returns the loss, detached.
      every: it is played in rounds 0, `every`, 2 `every`, ...
    """

    loss: str
    play: Callable[[], Tensor]
    every: int = 1


class Rounds:
    """A game as the moves of its rounds.

    Attributes:
      played: the number of rounds so far.
    """

    played: int = 0

    def moves(self) -> Sequence[Move]:
        """The moves of a round in their order."""
        raise NotImplementedError

    def play(self, rounds: int) -> dict[str, float]:
        """Plays rounds; reports the last losses."""
        losses: dict[str, Tensor] = {}
        moves = self.moves()
        for _ in range(rounds):
            for move in moves:
                if self.played % move.every == 0:
                    losses[move.loss] = move.play()
            self.played += 1
        return {name: round(loss.item(), 4) for name, loss in losses.items()}


@dataclasses.dataclass
class TorchGame(Rounds):
    """A generator against a critic.

    Attributes:
      objective: `non_saturating`, `wgan`, `wgan_gp` or `hinge`.
      n_critic: critic turns a round.
      generator, critic: the networks; the critic scores `[B]`.
      optimizers: of the generator and of the critic.
      real: draws a batch of data.
      latent: draws a batch of z.
      mix: draws e of the penalty's interpolates.
      r1: weight of the penalty on the critic's gradient at real samples.
      average: the generator's exponential moving average, if it keeps one.
    """

    objective: str
    n_critic: int
    generator: nn.Module
    critic: nn.Module
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer]
    real: Draw
    latent: Draw
    mix: Draw
    r1: float = 0.0
    average: swa_utils.AveragedModel | None = None

    def moves(self) -> Sequence[Move]:
        """The critic's turns and the generator's."""
        return (
            *self.n_critic * (Move("critic/loss", self.critic_turn),),
            Move("generator/loss", self.generator_turn),
        )

    def critic_turn(self) -> Tensor:
        """One step of the critic; returns its loss."""
        real = self.real()
        if self.r1:
            real.requires_grad_(True)
        with torch.no_grad():
            fake = self.generator(self.latent())
        scores = self.critic(real)
        loss = CRITIC_LOSSES[self.objective](scores, self.critic(fake))
        if self.r1:
            (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
            loss = loss + self.r1 / 2 * gradient.square().flatten(1).sum(1).mean()
        if self.objective == "wgan_gp":
            loss = loss + PENALTY * self.penalty(real, fake)
        self._step(self.optimizers[1], loss)
        if self.objective == "wgan":
            with torch.no_grad():
                for parameter in self.critic.parameters():
                    parameter.clamp_(-CLIP, CLIP)
        return loss.detach()

    def penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """E (||grad D|| - 1)^2 on interpolates."""
        e = self.mix()
        x = (e * real + (1 - e) * fake).requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.critic(x).sum(), x, create_graph=True)
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()

    def generator_turn(self) -> Tensor:
        """One step of the generator against a frozen critic, and of its average; returns its loss."""
        self.critic.requires_grad_(False)
        loss = GENERATOR_LOSSES[self.objective](self.critic(self.generator(self.latent())))
        self._step(self.optimizers[0], loss)
        self.critic.requires_grad_(True)
        if self.average is not None:
            self.average.update_parameters(self.generator)
        return loss.detach()

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def make_optimizer(
    objective: str, parameters: Any, kind: str = "fused", learning_rate: float = 1e-4
) -> torch.optim.Optimizer:
    """The optimiser of the objective's paper.

    Args:
      objective: see `TorchGame`.
      parameters: what it moves.
      kind: which of PyTorch's implementations: `fused` where there is one (Adam), else as `foreach`; `default` is
        what PyTorch chooses, on a CPU a Python loop over the parameters.
      learning_rate: Adam's; WGAN has its own.
    """
    if objective == "wgan":
        foreach = {} if kind == "default" else {"foreach": True}
        return torch.optim.RMSprop(parameters, lr=WGAN_LEARNING_RATE, alpha=0.99, **foreach)
    betas = BETAS.get(objective, (0.5, 0.999))
    return torch.optim.Adam(parameters, lr=learning_rate, betas=betas, **options_of(kind))


def options_of(kind: str) -> dict[str, bool]:
    """The options of Adam for one of `OPTIMIZERS`."""
    return {} if kind == "default" else {kind: True}


def average_of(generator: nn.Module, decay: float) -> swa_utils.AveragedModel | None:
    """The generator's average over parameters and statistics; `None` without a decay."""
    if not decay:
        return None
    mix = swa_utils.get_ema_multi_avg_fn(decay)
    return swa_utils.AveragedModel(generator, multi_avg_fn=mix, use_buffers=True)


def parameter_counts(game: Any) -> dict[str, int]:
    """How many numbers each player trains."""
    return {
        name: sum(parameter.numel() for parameter in network.parameters())
        for name, network in (("generator", game.generator), ("critic", game.critic))
    }


class _FlopCounter(TorchDispatchMode):
    """Sums the counts of PyTorch's operations; its `FlopCounterMode` ignores `torch.autograd.grad`."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def count_flops(game: Any) -> dict[str, int]:
    """What PyTorch computes in one move of each kind, in products of matrices and convolutions.

    It counts the gradient by a grouped convolution's kernel as if there were one group.

    Returns:
      By player, and by the name of what is regularised.
    """
    counts = {}
    for move in dict.fromkeys(game.moves()):
        player, _, part = move.loss.partition("/")
        with _FlopCounter() as counter:
            move.play()
        counts[player if part == "loss" else part] = counter.total
    return counts
