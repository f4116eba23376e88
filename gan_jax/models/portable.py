"""Programs as files: `jax.export` of every program, with a symbolic batch, for CPU, CUDA and TPU.

    model.json              which program is whose, classes, names of weights, the groups that critics compare
    generator.jaxexport     (weights by name, key data, latent, *conditions) -> samples
    critic.jaxexport        (weights by name, key data, examples, *conditions) -> {"score": [B], ...}
    latent.jaxexport        key data -> 1,000 latents

A file is StableHLO: it names operations of the compiler and carries no Python. Programs that call back into a
process, or anything but the few custom calls that `jax.export` guarantees, are refused when they are read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import export

from gan_jax.models.programs import KEY_SHAPE, WHOLE_BATCH, Program, Programs, group_of

FORMAT = 1
PLATFORMS = ("cpu", "cuda", "tpu")
FIXED_BATCH = 64
"""The batch of a program whose network does not take a symbolic one, or the next less of whole groups."""
SUFFIX = ".jaxexport"
_CALLS = frozenset({"Sharding", "annotate_device_placement", "shape_assertion", "cu_threefry2x32_ffi"})
"""Custom calls without an effect outside of a program; those of `stablehlo` itself are also accepted."""


class PortableError(ValueError):
    """Programs that cannot be written or read; the message is one line for the user."""


def to_files(programs: Programs, *, differentiable: bool = False) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Exports programs.

    Args:
      programs: what is exported.
      differentiable: include the programs' derivatives, which takes two or three times as long.

    Returns:
      The description for `model.json`, and the files by name.

    Raises:
      PortableError: if a network cannot be exported: it calls Python, say.
    """
    files: dict[str, bytes] = {}

    def written(name: str, program: Program) -> str:
        try:
            files[name + SUFFIX] = bytes(_exported(program).serialize(vjp_order=int(differentiable)))
        except Exception as error:
            first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise PortableError(f"{name} cannot be exported: {first_line}") from error
        return name + SUFFIX

    description: dict[str, Any] = {
        "format": FORMAT,
        "differentiable": differentiable,
        "classes": list(programs.classes),
        "latent": None,
        "generators": {},
        "critics": {name: written(name, program) for name, program in programs.critics.items()},
        "critic_groups": {name: group_of(program) for name, program in programs.critics.items()},
    }
    if programs.latent is not None:
        latent = export.export(jax.jit(programs.latent), platforms=PLATFORMS)(KEY_SHAPE)
        files["latent" + SUFFIX] = bytes(latent.serialize())
        description["latent"] = "latent" + SUFFIX
    for name, program in programs.generators.items():
        description["generators"][name] = {
            "program": written(name, program),
            "critic": programs.critic_of.get(name),
        }
        if name in programs.mappings:
            description["generators"][name] |= {
                "mapping": written(f"{name}_mapping", programs.mappings[name]),
                "synthesis": written(f"{name}_synthesis", programs.syntheses[name]),
            }
    return description, files


def _exported(program: Program) -> export.Exported:
    """The program for any batch, or for one of `fixed_size` where its network needs to know the size."""

    def inputs(batch: Any) -> tuple[Any, ...]:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype), program.inputs
        )

    exporting = export.export(jax.jit(program.call), platforms=PLATFORMS)
    try:
        return exporting(dict(program.weights), KEY_SHAPE, *inputs(export.symbolic_shape("b")[0]))
    except Exception:  # whatever a network does with a size that is no number
        return exporting(dict(program.weights), KEY_SHAPE, *inputs(_fixed_size(program)))


def _fixed_size(program: Program) -> int:
    """`FIXED_BATCH`, or the most whole groups within it of a program that compares groups."""
    try:
        group = max(1, group_of(program))
    except Exception:  # what cannot be traced is said when it is exported
        group = 1
    return fixed_batch(program) or FIXED_BATCH // group * group


def from_files(description: Mapping[str, Any], read: Callable[[str], bytes]) -> Programs:
    """The programs that `to_files` wrote.

    Args:
      description: what `model.json` says.
      read: the content of a file, by its name.

    Raises:
      PortableError: if something is missing, damaged, of another format, or calls out of its program.
    """
    if not isinstance(description, Mapping) or description.get("format") != FORMAT:
        found = description.get("format") if isinstance(description, Mapping) else None
        raise PortableError(f"it is of format {found}, and this version reads {FORMAT}")
    try:
        generators = dict(description["generators"])
        latent = description["latent"]
        halves = [name for name, entry in generators.items() if "mapping" in entry]
        return Programs(
            generators={name: _program(entry["program"], read) for name, entry in generators.items()},
            critics={
                name: _critic(_program(file, read), description.get("critic_groups", {}).get(name))
                for name, file in description["critics"].items()
            },
            mappings={name: _program(generators[name]["mapping"], read) for name in halves},
            syntheses={name: _program(generators[name]["synthesis"], read) for name in halves},
            latent=None if latent is None else read_exported(latent, read).call,
            critic_of={name: str(entry["critic"]) for name, entry in generators.items() if entry["critic"]},
            classes=tuple(map(str, description["classes"])),
            differentiable=description["differentiable"] is True,
        )
    except PortableError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PortableError(f"it is damaged ({type(error).__name__}: {error})") from error


def _program(file: str, read: Callable[[str], bytes]) -> Program:
    exported = read_exported(file, read)
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in exported.in_avals]
    (weights, _, *inputs), _ = jax.tree.unflatten(exported.in_tree, shapes)
    return Program(exported.call, weights, tuple(inputs))


def _critic(program: Program, group: Any) -> Program:
    """A critic with the groups that it compares; files from before they were written do not say.

    Such a program is taken to compare its whole batch if it is for one size only, which minibatch statistics need.
    """
    if group is None:
        group = 1 if fixed_batch(program) is None else WHOLE_BATCH
    if isinstance(group, bool) or not isinstance(group, int) or group < 0:
        raise PortableError(f"it is damaged (a critic's group is {group!r})")
    if group > 1 and (fixed_batch(program) or group) % group:
        raise PortableError(f"it is damaged (a critic's group of {group} does not divide its batch)")
    return dataclasses.replace(program, group=group)


def read_exported(file: str, read: Callable[[str], bytes]) -> export.Exported:
    """One program from its file.

    Raises:
      PortableError: if it is no program, calls out of it, or has 64-bit numbers where JAX has none.
    """
    if "/" in file or file.startswith("."):
        raise PortableError(f"{file!r} is no name of a file beside it")
    data = read(file)
    try:
        exported = export.deserialize(bytearray(data))
        called = _calls(exported)
    except Exception as error:
        raise PortableError(f"{file} is no program of jax.export") from error
    strange = sorted(name for name in called if name not in _CALLS and not name.startswith("stablehlo."))
    if strange:
        raise PortableError(f"{file} calls {', '.join(strange)}, outside of what a program may do")
    if any(jax.dtypes.canonicalize_dtype(aval.dtype) != aval.dtype for aval in exported.in_avals):
        raise PortableError("it was made with 64-bit numbers: launch with JAX_ENABLE_X64=1")
    return exported


def _calls(exported: export.Exported) -> set[str]:
    """The names of custom calls in a program and in its derivatives, which are programs of their own."""
    text = exported.mlir_module()
    called = set(re.findall(r'custom_call @"?([^"(\s]+)', text)) | set(
        re.findall(r'call_target_name = "([^"]*)"', text)
    )
    return called | (_calls(exported.vjp()) if exported.has_vjp() else set())


def fixed_batch(program: Program) -> int | None:
    """The batch that a program needs, `None` where it takes any."""
    sizes = [leaf.shape[0] for leaf in jax.tree.leaves(program.inputs)]
    return sizes[0] if sizes and isinstance(sizes[0], int) and sizes[0] != 1 else None
