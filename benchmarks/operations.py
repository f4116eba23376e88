"""The convolutions that rounds are made of, one by one, against PyTorch's: where a game's time goes.

    python -m benchmarks.operations                        # about 3 minutes on a quiet machine
    python -m benchmarks.operations --torch-python PATH    # PyTorch in another virtual environment
    python -m benchmarks.operations --only grouped:32 --no-save

Each is measured as a convolution, as its gradient by the input and as that by the kernel, which gradient penalties
need too: 3 x 3 in groups of 16 channels and 1 x 1 (R3GAN's blocks, 128 channels inside), 3 x 3 (SNGAN), and 4 x 4
with a stride of 2 (the U-Net, DCGAN). The number in a name is the side of the image. Ours run in a loop of one
program. The rates are of the useful multiply-adds, in GFLOP/s; both sides' results are compared first.

Either side's C library keeps what is freed. By default glibc gave the buffers that a small convolution is packed
into back to the system and asked for them anew in each execution of some processes: at 16 x 16 pixels ours then ran
at 25 to 40 GFLOP/s, two thirds of the time in the kernel, and in other processes of the same program at 80. The
rounds of games have larger arrays, by which glibc raises its thresholds, and do not depend on it.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np

from benchmarks import flops, harness
from gan_jax.tables import text_table

KEEPS = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""The environment in which glibc keeps freed memory; 2^25 is the most it takes as the first."""
KINDS = ("convolution", "by input", "by kernel")
TOLERANCE = 1e-4
HEADING = ["convolution", "what", "gan_jax GFLOP/s", "torch GFLOP/s", "ratio", "pairs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution:
    """The sizes of a convolution with as many pixels out as in, over the stride.

    Attributes:
      name: its name in the table.
      size: height and width of the image that goes in.
      inputs, outputs: channels.
      kernel: height and width of the kernel.
      stride: of the window.
      groups: of channels.
      batch: images at a time.
    """

    name: str
    size: int
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    batch: int = 16

    @property
    def flops(self) -> int:
        """Two for each multiply-add."""
        small, inputs = self.size // self.stride, self.inputs // self.groups
        return 2 * self.batch * flops.convolution(small, self.kernel, inputs, self.outputs)


CONVOLUTIONS = [
    *(Convolution(name=f"grouped:{n}", size=n, inputs=128, outputs=128, groups=8) for n in (32, 16, 8)),
    Convolution(name="pointwise:32", size=32, inputs=64, outputs=128, kernel=1),
    Convolution(name="pointwise:16", size=16, inputs=64, outputs=128, kernel=1),
    Convolution(name="residual:32", size=32, inputs=64, outputs=64, batch=32),
    Convolution(name="residual:16", size=16, inputs=64, outputs=64, batch=32),
    Convolution(name="strided:32", size=32, inputs=64, outputs=128, kernel=4, stride=2),
]


def worker(who: str, convolution: Convolution, kind: str, flags: Any) -> harness.Worker:
    """Ours or PyTorch's program of an operation."""
    spec = {**dataclasses.asdict(convolution), "operation": kind, "who": who, "threads": flags.threads}
    python = sys.executable if who == "ours" else flags.torch_python
    name = "gan_jax" if who == "ours" else "torch"
    return harness.Worker(name, "benchmarks.operation_worker", spec, python=python, environment=KEEPS)


def difference(first: harness.Worker, second: harness.Worker) -> float:
    """The largest difference of the results over the largest number."""
    x, y = (np.array(program.ask("sample")["sample"]) for program in (first, second))
    return float(np.abs(x - y).max() / np.abs(y).max())


def main() -> None:
    """Measures and prints the table.

    Raises:
      BenchmarkError: if both sides compute something else.
    """
    parser = harness.arguments(__doc__, pairs=5, seconds=0.3, warm_up=0.5, tolerance=0.1)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="some of the convolutions")
    flags = parser.parse_args()
    harness.check_only(parser, flags.only, [convolution.name for convolution in CONVOLUTIONS])
    rows: list[list[str]] = [HEADING]
    results: dict[str, dict[str, Any]] = {}
    for convolution in CONVOLUTIONS:
        if flags.only and convolution.name not in flags.only:
            continue
        for kind in KINDS:
            with (
                worker("ours", convolution, kind, flags) as mine,
                worker("torch", convolution, kind, flags) as other,
            ):
                if (far := difference(mine, other)) > TOLERANCE:
                    raise harness.BenchmarkError(
                        f"{convolution.name}, {kind}: the two sides differ by {far:.1e} of the largest number."
                    )
                result = harness.compare(mine, other, harness.plan_of(flags))
            gflops = [convolution.flops * rate / 1e9 for rate in result.rates]
            rates = [f"{rate:.0f}" for rate in gflops]
            rows.append([convolution.name, kind, *rates, str(result.ratio), harness.pairs_cell(result)])
            kept = {**result.to_json(), "gflops_per_second": [round(rate, 1) for rate in gflops]}
            results.setdefault(convolution.name, {})[kind] = kept
    print(text_table(rows))
    harness.save(flags, "operations", {"convolutions": results})


if __name__ == "__main__":
    harness.run(main)
