"""What a compiled program does, read off its text: kernels, convolutions, collectives, dtypes, aliases.

Counts are of one round: the body of the program's outermost loop, an inner loop's as often as it runs, of a
conditional the branch with most.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

BYTES = {
    "f64": 8,
    "f32": 4,
    "bf16": 2,
    "f16": 2,
    "s32": 4,
    "u32": 4,
    "s64": 8,
    "u64": 8,
    "s8": 1,
    "u8": 1,
    "pred": 1,
}
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute")
LARGEST_KERNEL = 5
"""The pixels of the largest kernel of a strided layer."""
_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "optimization-barrier",
    "domain",
    "add-dependency",
}
_NO_KERNEL_TARGETS = (
    "AllocateBuffer",
    "Sharding",
    "SPMDFullToShardShape",
    "SPMDShardToFullShape",
    "AssumeGatherIndices",
)
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d+|pred)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a program: `%name = type opcode(rest`."""

    name: str
    type: str
    opcode: str
    rest: str

    def called(self, attribute: str) -> list[str]:
        """The computations that an attribute names, `body=%b` or `branch_computations={%a, %b}`."""
        found = re.search(rf"{attribute}=(?:\{{([^}}]*)\}}|%?([\w.\-]+))", self.rest)
        if found is None:
            return []
        return [name.strip().lstrip("%") for name in (found[1] or found[2]).split(",")]

    @property
    def target(self) -> str:
        """A custom call's target."""
        found = re.search(r'custom_call_target="([^"]*)"', self.rest)
        return found[1] if found else ""

    @property
    def window(self) -> dict[str, str]:
        """A convolution's window, `{"size": "4x4", "stride": "2x2", ...}`; empty for a product."""
        found = re.search(r"window=\{([^}]*)\}", self.rest)
        return dict(part.split("=", 1) for part in found[1].split()) if found else {}

    @property
    def operands(self) -> list[str]:
        """The operands' names."""
        depths = itertools.accumulate(({"(": 1, ")": -1}.get(c, 0) for c in self.rest), initial=1)
        end = next((place for place, depth in enumerate(depths) if not depth), len(self.rest))
        return re.findall(r"%([\w.\-]+)", self.rest[:end])


class Program:
    """A compiled program's text, in computations.

    Args:
      text: as `compiled.as_text()` gives it.
    """

    def __init__(self, text: str):
        self.text = text
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = ""
        current: list[Instruction] | None = None
        for line in text.splitlines():
            if head := _COMPUTATION.match(line):
                current = self.computations.setdefault(head[2], [])
                self.entry = head[2] if head[1] else self.entry
            elif line.startswith("}"):
                current = None
            elif current is not None and (found := _INSTRUCTION.match(line)):
                current.append(Instruction(*found.groups()))

    def __iter__(self) -> Iterator[tuple[str, Instruction]]:
        for name, instructions in self.computations.items():
            for instruction in instructions:
                yield name, instruction

    @functools.cached_property
    def round(self) -> collections.Counter[str]:
        """The kernels of one round by kind: opcodes, and `bytes of` each kind of collective."""
        loops = [self._work(body) for body in self._outer_bodies(self.entry)]
        return max(loops, key=kernels, default=self._work(self.entry))

    def _outer_bodies(self, computation: str) -> Iterator[str]:
        for instruction in self.computations.get(computation, []):
            if instruction.opcode == "while":
                yield from instruction.called("body")
            else:
                for attribute in ("to_apply", "calls", "called_computations"):
                    if instruction.opcode in ("call", "async-start"):
                        for name in instruction.called(attribute):
                            yield from self._outer_bodies(name)

    @functools.cache  # noqa: B019  a program lives as long as what is read off it
    def _work(self, computation: str) -> collections.Counter[str]:
        work: collections.Counter[str] = collections.Counter()
        for instruction in self.computations.get(computation, []):
            opcode = instruction.opcode.removesuffix("-start")
            if (
                opcode in _FREE
                or opcode.endswith(("-done", "-update"))
                or instruction.target in _NO_KERNEL_TARGETS
            ):
                continue
            if opcode == "while":
                times = self._trips(instruction)
                for body in instruction.called("body"):
                    for kind, number in self._work(body).items():
                        work[kind] += number * times
            elif opcode == "conditional":
                branches = [
                    *instruction.called("branch_computations"),
                    *instruction.called("true_computation"),
                    *instruction.called("false_computation"),
                ]
                work += max([self._work(branch) for branch in branches], key=lambda found: kernels(found))
            elif opcode in ("call", "async"):
                for attribute in ("to_apply", "calls", "called_computations"):
                    for name in instruction.called(attribute):
                        work += self._work(name)
            else:
                work[opcode] += 1
                if opcode in COLLECTIVES:
                    work[f"bytes of {opcode}"] += size_of(instruction.type)
        return work

    def _trips(self, loop: Instruction) -> int:
        """How often a loop runs: as the compiler notes it, or by the constant of its condition; else 1."""
        if noted := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest):
            return int(noted[1])
        conditions = [i for name in loop.called("condition") for i in self.computations.get(name, [])]
        bounds = [i.rest for i in conditions if i.opcode == "constant" and i.type.startswith("s32[]")]
        found = re.match(r"(\d+)\)", bounds[0]) if len(bounds) == 1 else None
        return int(found[1]) if found else 1

    @functools.cached_property
    def convolutions(self) -> list[dict[str, Any]]:
        """Every convolution: its kind, its window, its operands' and its result's arrays."""
        found: list[dict[str, Any]] = []
        for name, instruction in self:
            is_custom = "conv" in instruction.target.lower()
            if not (instruction.opcode == "convolution" and instruction.window) and not is_custom:
                continue
            types = {other.name: other.type for other in self.computations[name]}
            operands = [arrays_of(types.get(operand, ""))[:1] for operand in instruction.operands[:2]]
            found.append(
                {
                    "kind": instruction.target or instruction.opcode,
                    "window": instruction.window,
                    "operands": [array for arrays in operands for array in arrays],
                    "result": arrays_of(instruction.type)[:1],
                    "kernel gradient": _is_kernel_gradient(instruction),
                }
            )
        return found

    @property
    def dilated(self) -> list[dict[str, Any]]:
        """The convolutions with a dilated kernel that is no image, which have no fast path.

        The kernel's gradient of a strided convolution slides the dilated gradient of its output over its input:
        that is its native form on a TPU, where the window is larger than the result. Elsewhere it has an operation
        of its own.
        """
        return [
            conv for conv in self.convolutions if _is_dilated(conv["window"]) and not conv["kernel gradient"]
        ]

    @property
    def aliases(self) -> int:
        """How many of the arguments' arrays are given to results."""
        head = self.text.partition("\n")[0]
        found = re.search(r"input_output_alias=\{(.*?)\}, entry", head)
        return len(re.findall(r"\(\d+, \{", found[1])) if found else 0

    @property
    def callbacks(self) -> list[str]:
        """Custom calls that go back to the host."""
        targets = {instruction.target for _, instruction in self}
        return sorted(target for target in targets if "callback" in target or "host" in target.lower())

    def has_dtype(self, dtype: str) -> bool:
        """Whether any array has this dtype."""
        return re.search(rf"\b{dtype}\[", self.text) is not None


def kernels(work: Any) -> int:
    """The number of kernels in a count by kind."""
    return sum(number for kind, number in work.items() if not kind.startswith("bytes of "))


def arrays_of(text: str) -> list[str]:
    """The arrays of a type, `f32[64,32]`."""
    return [f"{dtype}[{shape}]" for dtype, shape in _ARRAY.findall(text)]


def size_of(text: str) -> int:
    """The bytes of a type's arrays.

    >>> size_of("(f32[2,3]{1,0}, bf16[4])")
    32
    """
    return sum(
        BYTES.get(dtype, 4) * math.prod(int(n) for n in shape.split(",") if n)
        for dtype, shape in _ARRAY.findall(text)
    )


def _is_dilated(window: dict[str, str]) -> bool:
    return any(n != "1" for n in window.get("rhs_dilate", "1").split("x"))


def _is_kernel_gradient(instruction: Instruction) -> bool:
    """Whether a convolution gives the gradient of a kernel: its result is as small as one, or below its window.

    Of an operation of cuDNN it is not asked: there a kernel's gradient is another operation.
    """
    labels = re.search(r"dim_labels=\w+->(\w+)", instruction.rest)
    shape = _ARRAY.findall(instruction.type)
    if labels is None or not shape or instruction.opcode != "convolution":
        return False
    sides = [int(n) for n, label in zip(shape[0][1].split(","), labels[1], strict=True) if label.isdigit()]
    window = [int(n) for n in instruction.window.get("size", "1").split("x")]
    return math.prod(window) > math.prod(sides) or max(sides) <= LARGEST_KERNEL
