"""The ring game, gan_jax's `rollout` against an eager PyTorch loop of the same game.

    python -m benchmarks.ring                                # six games, about 7 minutes on a quiet machine
    python -m benchmarks.ring --torch-python PATH            # PyTorch in another virtual environment
    python -m benchmarks.ring --check                        # is it the same game on both sides?
    python -m benchmarks.ring --latent 256 --torch-optimizer fused      # the harder comparison, see below
    python -m benchmarks.ring --only wgan_gp:5 --pairs 3 --seconds 1 --no-save

Eight Gaussians on a circle, z of 2 as in WGAN-GP's toys, a generator and a critic of 2 x 128 ReLU, batch 256; 1 or
5 critic turns a round; -log D with Adam(1e-4, .5), WGAN with RMSProp(5e-5) and clipping at .01, WGAN-GP with lambda
10 and Adam(1e-4, 0, .9). Ours draws data, z and interpolates inside the step and fetches every round's metrics;
PyTorch's draws as much and fetches nothing; its optimisers are as `torch.optim.Adam(...)` gives them
(`--torch-optimizer=fused` for its fastest). A z of 256, as in the unrolled GAN's ring, makes drawing it a large
part of our round, and the ratios lower. Bars: generator rounds/s 2.5 times PyTorch's in each of the six games,
3 times in the geometric mean.
"""

from __future__ import annotations

import dataclasses

from benchmarks import harness, versus
from benchmarks.games import Ring

GAMES = [Ring(objective=name, n_critic=n) for name in ("non_saturating", "wgan", "wgan_gp") for n in (1, 5)]
BAR, MEAN_BAR = 2.5, 3.0


def main() -> None:
    """Runs the comparison and prints its table."""
    parser = versus.arguments(__doc__)
    parser.add_argument("--latent", type=int, default=Ring.latent, help="dimensions of z")
    flags = parser.parse_args()
    games = [dataclasses.replace(game, latent=flags.latent) for game in versus.chosen(parser, flags, GAMES)]
    if flags.check:
        versus.print_checks(games, flags.torch_python)
        return
    results = versus.measure(games, flags, lambda game: BAR)
    mean = versus.mean_ratio(results)
    touched = "" if all(result["trusted"] for result in results.values()) else "; not judged: other load"
    print(f"geometric mean {mean:.2f} (bar {MEAN_BAR}{touched})")
    # A result under other settings than the defaults does not replace one under the defaults.
    options = (("latent", Ring.latent), ("torch_optimizer", Ring.torch_optimizer))
    changed = [f"{name}_{getattr(flags, name)}" for name, usual in options if getattr(flags, name) != usual]
    harness.save(
        flags,
        "_".join(["ring", *changed]),
        {"games": results, "geometric_mean": round(mean, 3), "mean_bar": MEAN_BAR},
    )


if __name__ == "__main__":
    harness.run(main)
