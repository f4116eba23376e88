"""Which examples of a batch each entry of a result depends on, found from the traced program.

A per-example penalty is meaningless on a critic that mixes its batch, and microbatches average exactly only if
each example's loss depends on no other example. Both are properties of the program, so they are read off its jaxpr:
sets of examples are passed from operation to operation, and no number is computed. A derivative at some parameters
would not do: it vanishes behind every layer whose weights start at zero.

The sets are never too small. They may be too large where entries are followed in groups or a primitive is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from gan_jax._dependence_rules import (
    Bits,
    Value,
    compact,
    constant,
    dependence_of,
    numbers_of,
    shape_of,
    uniform,
    union,
    union_of_all,
)
from gan_jax.types import Key, Tree

MOST_EXAMPLES = 64
BATCHES = (64, 60, 56, 4)
"""The batch sizes at which a network is traced: large ones, so that groups of examples hold more than one each."""
STEPS_LIMIT = 64
"""A scan over the examples is followed step by step up to this length."""
ITERATIONS_LIMIT = 100


def example_dependence(function: Callable[..., Any], *args: Any, argnums: int | Sequence[int] = 0) -> Tree:
    """Finds the set of examples that each entry of a function's results depends on.

    Args:
      function: a function of arrays; it is traced, not run.
      *args: trees of arrays or `jax.ShapeDtypeStruct`s.
      argnums: the arguments whose leaves are batches `[B, ...]` of the same B examples. Row `i` of each is example
        `i`; rows of real and fake batches are paired that way. Scalar leaves and all other arguments are constants.

    Returns:
      A tree of uint64 arrays with the structure of the function's result: bit `i` is set where the entry may depend
      on example `i`.

    Raises:
      ValueError: if the batches differ in size, have more than 64 examples, or there is no batch.

    >>> x = jax.ShapeDtypeStruct((3,), "float32")
    >>> print(example_dependence(lambda x: x[::-1] + x, x))
    [5 2 5]
    >>> print(example_dependence(lambda x: x - x.mean(), x))
    [7 7 7]
    """
    program, out = jax.make_jaxpr(function, return_shape=True)(*args)
    return jax.tree.unflatten(jax.tree.structure(out), _result_bits(program, args, _marked(argnums)))


def is_per_example(function: Callable[..., Any], *args: Any, argnums: int | Sequence[int] = 0) -> bool:
    """Tells whether row `i` of every result depends only on example `i`.

    Results `[B, ...]` are checked row by row; a result of another shape must depend on no example.

    Args:
      function, *args, argnums: see `example_dependence`.

    >>> x = jax.ShapeDtypeStruct((8, 2), "float32")
    >>> is_per_example(lambda x: x.sum(1), x), is_per_example(lambda x: x.sum(0), x)
    (True, False)
    """
    program = jax.make_jaxpr(function)(*args)
    return _rows_are_independent(program, args, _marked(argnums))


def couples_batch(
    init: Callable[[Key], tuple[Tree, Tree]], apply: Callable[..., tuple[Any, Tree]], inputs: Sequence[Any]
) -> bool:
    """Tells whether one example's output depends on others in its batch when the network is trained.

    Only outputs count, not the new model state. The network is traced with a batch of 64 examples, or of 60, 56, 4
    or the size in `inputs` if it rejects the sizes before. Every input, labels included, holds one entry per
    example. A network that reduces over a named axis of devices couples the examples on them.

    Args:
      init, apply: the functions of a `Network`.
      inputs: trees of arrays or `jax.ShapeDtypeStruct`s with any batch size.

    Raises:
      Exception: the network's error for the first of these batch sizes, if it accepts none.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    params, model_state = jax.eval_shape(init, key)

    def outputs(params: Tree, model_state: Tree, key: Key, inputs: Sequence[Any]) -> Any:
        return apply(params, model_state, *inputs, train=True, key=key)[0]

    refusal = None
    for batch in (*BATCHES, _batch_size(inputs)):
        args = params, model_state, key, _with_batch(inputs, batch)
        try:
            program = jax.make_jaxpr(outputs)(*args)
        except Exception as error:
            if isinstance(error, NameError) and "unbound axis name" in str(error):
                return True
            refusal = refusal or error
        else:
            return not _rows_are_independent(program, args, {3})
    assert refusal is not None
    raise refusal


def _batch_size(inputs: Sequence[Any]) -> int:
    return next(leaf.shape[0] for leaf in jax.tree.leaves(inputs) if leaf.shape)


def _with_batch(inputs: Sequence[Any], batch: int) -> tuple[Any, ...]:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((batch, *x.shape[1:]) if x.shape else (), x.dtype), tuple(inputs)
    )


def _result_bits(program: Any, args: Sequence[Any], marked: set[int]) -> list[Bits]:
    """The sets of a program's results at their full shapes."""
    _count_examples(args, marked)
    inputs = [
        Value(_singletons(np.shape(leaf)) if place in marked else uniform(0, np.shape(leaf)))
        for place, arg in enumerate(args)
        for leaf in jax.tree.leaves(arg)
    ]
    return [
        np.broadcast_to(result.bits, shape_of(variable))
        for result, variable in zip(_evaluate(program, inputs), program.jaxpr.outvars, strict=True)
    ]


def _rows_are_independent(program: Any, args: Sequence[Any], marked: set[int]) -> bool:
    count = _count_examples(args, marked)
    others = ~(np.uint64(1) << np.arange(count, dtype=np.uint64))
    for bits in _result_bits(program, args, marked):
        if bits.shape[:1] == (count,):
            bits = np.bitwise_or.reduce(bits, axis=tuple(range(1, bits.ndim))) & others
        if bits.any():
            return False
    return True


def _marked(argnums: int | Sequence[int]) -> set[int]:
    return {argnums} if isinstance(argnums, int) else set(argnums)


def _count_examples(args: Sequence[Any], marked: set[int]) -> int:
    sizes = {np.shape(leaf)[0] for place in marked for leaf in jax.tree.leaves(args[place]) if np.shape(leaf)}
    if len(sizes) != 1 or max(sizes) > MOST_EXAMPLES:
        raise ValueError(
            f"Expected batches of one size of at most {MOST_EXAMPLES} examples in arguments {sorted(marked)}, "
            f"got {sorted(sizes)}."
        )
    return sizes.pop()


def _singletons(shape: tuple[int, ...]) -> Bits:
    if not shape:
        return uniform(0, shape)
    bits = np.uint64(1) << np.arange(shape[0], dtype=np.uint64)
    return bits.reshape(-1, *(1,) * (len(shape) - 1))


# --- programs ----------------------------------------------------------------------------------------------------


def _evaluate(program: Any, arguments: Sequence[Value]) -> list[Value]:
    """The results of a jaxpr, open or closed, for its arguments."""
    jaxpr = getattr(program, "jaxpr", program)
    constants = [_constant(value) for value in getattr(program, "consts", ())]
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))
    if any(_has_references(equation) for equation in jaxpr.eqns):
        return _everything(values.values(), jaxpr.outvars)

    def read(atom: Any) -> Value:
        return _constant(atom.val) if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        values.update(zip(equation.outvars, _results(equation, operands), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _constant(value: Any) -> Value:
    return Value(uniform(0, np.shape(value)), None if isinstance(value, jax.core.Tracer) else constant(value))


def _has_references(equation: Any) -> bool:
    """Tells whether an equation reads or writes mutable arrays, so that values also flow outside its results."""
    return any(hasattr(atom.aval, "inner_aval") for atom in (*equation.invars, *equation.outvars))


def _everything(values: Any, variables: Sequence[Any]) -> list[Value]:
    bits = union_of_all(value.bits for value in values)
    return [Value(uniform(bits, shape_of(variable))) for variable in variables]


def _results(equation: Any, operands: list[Value]) -> list[Value]:
    name = equation.primitive.name
    if name in _PROGRAMS:
        return _PROGRAMS[name](equation, operands)
    bits = dependence_of(equation, operands)
    return [Value(bits[0], numbers_of(equation, operands))] if len(bits) == 1 else [Value(b) for b in bits]


def _call(equation: Any, operands: list[Value]) -> list[Value]:
    for name in ("jaxpr", "call_jaxpr", "call"):
        if name in equation.params:
            return _evaluate(equation.params[name], operands)
    return _everything(operands, equation.outvars)


def _cond(equation: Any, operands: list[Value]) -> list[Value]:
    index, *arguments = operands
    branches = [_evaluate(branch, arguments) for branch in equation.params["branches"]]
    return [
        Value(union(result.bits for result in results) | union_of_all([index.bits]))
        for results in zip(*branches, strict=True)
    ]


def _scan(equation: Any, operands: list[Value]) -> list[Value]:
    params = equation.params
    if "ft_in" in params:  # newer releases of JAX
        first, carried, _ = map(len, params["ft_in"].unpack())
    else:
        first, carried = params["num_consts"], params["num_carry"]
    last = first + carried
    constants, carry, rows = operands[:first], operands[first:last], operands[last:]
    if any(row.bits.shape[0] > 1 for row in rows) and params["length"] <= STEPS_LIMIT:
        return _scan_by_steps(params, constants, carry, rows)
    at_once = [Value(np.bitwise_or.reduce(row.bits, axis=0)) for row in rows]

    def body(carry: list[Value]) -> list[Value]:
        return _evaluate(params["jaxpr"], [*constants, *carry, *at_once])

    carry = _fixed_point(lambda carry: body(carry)[: len(carry)], carry, operands)
    return [*carry, *(Value(result.bits[None]) for result in body(carry)[len(carry) :])]


def _scan_by_steps(params: Any, constants: list[Value], carry: list[Value], rows: list[Value]) -> list[Value]:
    steps = range(params["length"])
    written = []
    for step in reversed(steps) if params["reverse"] else steps:
        current = [Value(row.bits[step if row.bits.shape[0] > 1 else 0]) for row in rows]
        results = _evaluate(params["jaxpr"], [*constants, *carry, *current])
        carry = results[: len(carry)]
        written.append([result.bits for result in results[len(carry) :]])
    if params["reverse"]:
        written.reverse()
    stacked = (np.stack(np.broadcast_arrays(*each)) for each in zip(*written, strict=True))
    return [*carry, *(Value(compact(bits)) for bits in stacked)]


def _while(equation: Any, operands: list[Value]) -> list[Value]:
    params = equation.params
    first, last = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]

    def body(carry: list[Value]) -> list[Value]:
        (goes_on,) = _evaluate(params["cond_jaxpr"], [*operands[:first], *carry])
        results = _evaluate(params["body_jaxpr"], [*operands[first:last], *carry])
        return [Value(result.bits | goes_on.bits) for result in results]

    return _fixed_point(body, operands[last:], operands)


def _fixed_point(
    body: Callable[[list[Value]], list[Value]], carry: list[Value], operands: Sequence[Value]
) -> list[Value]:
    """The sets that a loop's carry has after any number of iterations."""
    carry = [Value(value.bits) for value in carry]
    for _ in range(ITERATIONS_LIMIT):
        grown = [Value(compact(old.bits | new.bits)) for old, new in zip(carry, body(carry), strict=True)]
        if all(np.all(old.bits == new.bits) for old, new in zip(carry, grown, strict=True)):
            return carry
        carry = grown
    bits = union_of_all(operand.bits for operand in operands)
    return [Value(np.full((1,) * value.bits.ndim, bits)) for value in carry]


def _linear_solve(equation: Any, operands: list[Value]) -> list[Value]:
    """The solution is the result of the program `solve` for the right-hand side."""
    lengths, programs = equation.params["const_lengths"], equation.params["jaxprs"]
    first = lengths.matvec + lengths.vecmat
    right_hand_side = operands[sum(lengths) :]
    return _evaluate(programs.solve, [*operands[first : first + lengths.solve], *right_hand_side])


_CALLS = """
    call checkpoint closed_call composite core_call custom_jvp_call custom_vjp_call custom_vmap_call jit pjit remat2
    xla_metadata_call
"""

_PROGRAMS: dict[str, Callable[[Any, list[Value]], list[Value]]] = {
    **dict.fromkeys(_CALLS.split(), _call),
    "cond": _cond,
    "custom_linear_solve": _linear_solve,
    "scan": _scan,
    "while": _while,
}
