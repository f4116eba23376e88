"""Rules for JAX's primitive operations: which examples the results depend on, given those of the operands.

A set of examples is a `uint64`, bit `i` for example `i`. The sets of an array's entries are an array with as many
axes, in which an axis of size 1 stands for one along which all entries have the same set: an image batch
`[B, H, W, C]` starts as `[B, 1, 1, 1]` and mostly stays so, however large the images.

A rule never leaves a dependence out. Where following entries exactly would take long, it returns larger sets, and a
primitive without a rule makes every result depend on every operand.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Bits: TypeAlias = np.ndarray
Rule: TypeAlias = Callable[..., "Bits | list[Bits]"]

NUMBERS_LIMIT = 2**16
"""Integer arrays above this size are not evaluated."""
TAPS_LIMIT = 64
"""Windows with more taps along an axis than this are treated as if they covered all of it."""


class Numbers(NamedTuple):
    """An integer array some of whose entries are constants; they determine the rows that a gather reads.

    Attributes:
      data: the value, arbitrary where it is unknown.
      known: which entries are constants.
    """

    data: np.ndarray
    known: np.ndarray


class Value(NamedTuple):
    """What is known about a value of the program.

    Attributes:
      bits: the sets of examples.
      numbers: for small integer arrays, the entries that are constants.
    """

    bits: Bits
    numbers: Numbers | None = None


def shape_of(variable: Any) -> tuple[int, ...]:
    """The shape of a variable of a jaxpr; a token has none and counts as a scalar."""
    return tuple(getattr(variable.aval, "shape", ()))


def uniform(bits: Any, shape: Sequence[int]) -> Bits:
    """The same set for every entry of an array."""
    return np.full((1,) * len(shape), bits, np.uint64)


def union(arrays: Iterable[Bits]) -> Bits:
    """Entry by entry, with broadcasting."""
    return functools.reduce(np.bitwise_or, arrays, np.zeros((), np.uint64))


def union_of_all(arrays: Iterable[Bits]) -> np.uint64:
    """The union of all entries of all arrays, as one set."""
    return functools.reduce(np.bitwise_or, (np.bitwise_or.reduce(a, axis=None) for a in arrays), np.uint64(0))


def over(bits: Bits, axes: Iterable[int]) -> Bits:
    """The union over some axes, which stay with size 1."""
    wide = tuple(axis for axis in axes if bits.shape[axis] != 1)
    return np.bitwise_or.reduce(bits, axis=wide, keepdims=True) if wide else bits


def compact(bits: Bits) -> Bits:
    """Reduces axes along which all entries are equal to size 1."""
    for axis, size in enumerate(bits.shape):
        if size > 1:
            first = bits.take([0], axis)
            if np.array_equal(np.broadcast_to(first, bits.shape), bits):
                bits = first
    return bits


def widen(bits: Bits, shape: Sequence[int], axes: Iterable[int]) -> Bits:
    """Broadcasts some axes to their full size."""
    axes = set(axes)
    return np.broadcast_to(
        bits, [shape[axis] if axis in axes else size for axis, size in enumerate(bits.shape)]
    )


# --- elementwise and structural operations ---------------------------------------------------------------------


def _elementwise(equation: Any, *operands: Value) -> Bits:
    bits, shape = union(operand.bits for operand in operands), shape_of(equation.outvars[0])
    if np.broadcast_shapes(*map(shape_of, equation.invars)) != shape:
        return uniform(union_of_all([bits]), shape)
    return bits.reshape((1,) * (len(shape) - bits.ndim) + bits.shape)


def _identity(equation: Any, *operands: Value) -> list[Bits]:
    return [operand.bits for operand in operands]


def _reshape(equation: Any, operand: Value, *sizes: Value) -> Bits:
    before, after = shape_of(equation.invars[0]), shape_of(equation.outvars[0])
    if 0 in before:
        return uniform(0, after)
    order = equation.params["dimensions"] or range(len(before))
    bits, before = operand.bits.transpose(order), tuple(before[axis] for axis in order)
    target: list[int] = []
    wide: list[int] = []
    for old, new in _factors(before, after):
        if any(bits.shape[axis] != 1 for axis in old):
            wide += old
            target += [after[axis] for axis in new]
        else:
            target += [1] * len(new)
    return compact(widen(bits, before, wide).reshape(target))


def _factors(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes of one size in the smallest groups that hold the same number of entries."""
    groups, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        old, new = [], []
        if i < len(before):
            old, i = [i], i + 1
        if j < len(after):
            new, j = [j], j + 1
        while (left := math.prod(before[a] for a in old)) != (right := math.prod(after[a] for a in new)):
            if left < right:
                old, i = [*old, i], i + 1
            else:
                new, j = [*new, j], j + 1
        groups.append((old, new))
    return groups


def _broadcast(equation: Any, operand: Value, *sizes: Value) -> Bits:
    ndim = len(shape_of(equation.outvars[0]))
    return operand.bits.reshape(_placed(operand.bits.shape, equation.params["broadcast_dimensions"], ndim))


def _tile(equation: Any, operand: Value) -> Bits:
    repeats = zip(shape_of(equation.invars[0]), operand.bits.shape, equation.params["reps"], strict=True)
    return np.tile(operand.bits, [1 if size == 1 and full > 1 else n for full, size, n in repeats])


def _transpose(equation: Any, operand: Value) -> Bits:
    return operand.bits.transpose(equation.params["permutation"])


def _squeeze(equation: Any, operand: Value) -> Bits:
    return np.squeeze(operand.bits, tuple(equation.params["dimensions"]))


def _slice(equation: Any, operand: Value) -> Bits:
    slices = zip(operand.bits.shape, _slices(equation.params), strict=True)
    return operand.bits[tuple(slice(None) if size == 1 else along for size, along in slices)]


def _slices(params: Any) -> tuple[slice, ...]:
    strides = params["strides"] or (1,) * len(params["start_indices"])
    return tuple(map(slice, params["start_indices"], params["limit_indices"], strides))


def _split(equation: Any, operand: Value) -> list[Bits]:
    axis, sizes = equation.params["axis"], equation.params["sizes"]
    if operand.bits.shape[axis] == 1:
        return [operand.bits] * len(sizes)
    return np.split(operand.bits, np.cumsum(sizes)[:-1], axis)


def _reverse(equation: Any, operand: Value) -> Bits:
    return np.flip(operand.bits, equation.params["dimensions"])


def _concatenate(equation: Any, *operands: Value) -> Bits:
    axis = equation.params["dimension"]
    parts = [
        widen(operand.bits, shape_of(variable), [axis])
        for operand, variable in zip(operands, equation.invars, strict=True)
    ]
    others = np.broadcast_shapes(*(np.delete(part.shape, axis) for part in parts))
    return compact(
        np.concatenate(
            [np.broadcast_to(part, (*others[:axis], part.shape[axis], *others[axis:])) for part in parts],
            axis,
        )
    )


def _stack(equation: Any, *operands: Value) -> Bits:
    bits = np.broadcast_arrays(*(operand.bits for operand in operands))
    return compact(np.stack(bits, equation.params["axis"]))


def _unstack(equation: Any, operand: Value) -> list[Bits]:
    bits, axis = operand.bits, equation.params["axis"]
    return [bits.take(i if bits.shape[axis] > 1 else 0, axis) for i in range(len(equation.outvars))]


def _pad(equation: Any, operand: Value, value: Value) -> Bits:
    bits, shape = operand.bits, shape_of(equation.invars[0])
    for axis, (low, high, interior) in enumerate(equation.params["padding_config"]):
        if (low, high, interior) != (0, 0, 0):
            bits = pad_axis(widen(bits, shape, [axis]), axis, low, high, interior, value.bits)
    return bits


def pad_axis(bits: Bits, axis: int, low: int, high: int, interior: int, fill: Any = 0) -> Bits:
    """Pads one axis before, after and between its entries; negative amounts crop."""
    bits = np.moveaxis(bits, axis, 0)
    size = len(bits)
    dilated = np.full((max(size + (size - 1) * interior, 0), *bits.shape[1:]), fill, np.uint64)
    dilated[:: interior + 1] = bits
    padded = np.full((max(low, 0) + len(dilated) + max(high, 0), *bits.shape[1:]), fill, np.uint64)
    padded[max(low, 0) : max(low, 0) + len(dilated)] = dilated
    return np.moveaxis(padded[max(-low, 0) : len(padded) - max(-high, 0)], 0, axis)


# --- reductions and windows ------------------------------------------------------------------------------------


def _reduce(equation: Any, operand: Value) -> Bits:
    axes = tuple(equation.params["axes"])
    return np.squeeze(over(operand.bits, axes), axes)


def _reduce_by_function(equation: Any, *operands: Value) -> list[Bits]:
    axes = tuple(equation.params["dimensions"])
    bits = union(operand.bits for operand in operands)
    return [np.squeeze(over(bits, axes), axes)] * len(equation.outvars)


def _cumulative(equation: Any, operand: Value) -> Bits:
    axis, reverse = equation.params["axis"], equation.params["reverse"]
    bits = np.flip(operand.bits, axis) if reverse else operand.bits
    bits = np.bitwise_or.accumulate(bits, axis)
    return np.flip(bits, axis) if reverse else bits


def _along(parameter: str) -> Rule:
    """Every result depends on all entries along one axis of all operands."""

    def rule(equation: Any, *operands: Value) -> list[Bits]:
        axis = equation.params.get(parameter, -1)
        bits = union(operand.bits for operand in operands)
        return [over(bits, [axis % bits.ndim])] * len(equation.outvars)

    return rule


def _fourier(equation: Any, operand: Value) -> Bits:
    transformed = len(equation.params["fft_lengths"])
    return over(operand.bits, range(operand.bits.ndim - transformed, operand.bits.ndim))


def _matrices(equation: Any, *operands: Value) -> list[Bits]:
    """Leading axes are kept: those before the first operand's last two."""
    kept = operands[0].bits.ndim - 2
    if any(operand.bits.ndim < kept for operand in operands):
        return _unknown(equation, *operands)
    bits = union(
        np.bitwise_or.reduce(operand.bits, axis=tuple(range(kept, operand.bits.ndim))) for operand in operands
    )
    return [
        bits.reshape(bits.shape + (1,) * (len(shape_of(variable)) - kept)) for variable in equation.outvars
    ]


def _dot(equation: Any, left: Value, right: Value) -> Bits:
    (left_contracted, right_contracted), (left_batch, right_batch) = equation.params["dimension_numbers"]

    def batch_and_free(bits: Bits, contracted: Sequence[int], batch: Sequence[int]) -> tuple[Bits, int]:
        free = [axis for axis in range(bits.ndim) if axis not in contracted and axis not in batch]
        bits = over(bits, contracted).transpose(*batch, *free, *contracted)
        return bits.reshape(bits.shape[: len(batch) + len(free)]), len(free)

    left_bits, left_free = batch_and_free(left.bits, left_contracted, left_batch)
    right_bits, right_free = batch_and_free(right.bits, right_contracted, right_batch)
    batches = len(left_batch)
    return left_bits.reshape(left_bits.shape + (1,) * right_free) | right_bits.reshape(
        right_bits.shape[:batches] + (1,) * left_free + right_bits.shape[batches:]
    )


def _convolve(equation: Any, images: Value, kernel: Value) -> Bits:
    params, dimensions = equation.params, equation.params["dimension_numbers"]
    image_shape = [shape_of(equation.invars[0])[axis] for axis in dimensions.lhs_spec]
    kernel_shape = [shape_of(equation.invars[1])[axis] for axis in dimensions.rhs_spec]
    bits = images.bits.transpose(dimensions.lhs_spec)  # [N, I, ...]
    groups, batch_groups = params["feature_group_count"], params["batch_group_count"]
    features = kernel_shape[0]
    if groups > 1 and bits.shape[1] > 1:
        grouped = bits.reshape(bits.shape[0], groups, -1, *bits.shape[2:])
        bits = np.bitwise_or.reduce(grouped, axis=2).repeat(features // groups, axis=1)
    else:
        bits = over(bits, [1])
    if batch_groups > 1 and bits.shape[0] > 1:
        grouped = bits[:, 0].reshape(batch_groups, -1, *bits.shape[2:]).swapaxes(0, 1)
        bits = grouped.repeat(features // batch_groups, axis=1)
    for place, padding in enumerate(params["padding"]):
        bits = _windows(
            bits,
            2 + place,
            image_shape[2 + place],
            window=kernel_shape[2 + place],
            stride=params["window_strides"][place],
            padding=padding,
            dilation=params["lhs_dilation"][place],
            window_dilation=params["rhs_dilation"][place],
        )
    by_feature = over(kernel.bits.transpose(dimensions.rhs_spec), range(1, kernel.bits.ndim))
    return (bits | by_feature.swapaxes(0, 1)).transpose(np.argsort(dimensions.out_spec))


def _reduce_window(equation: Any, *operands: Value) -> list[Bits]:
    params, shape = equation.params, shape_of(equation.outvars[0])
    bits = union(operand.bits for operand in operands)
    bits = bits.reshape((1,) * (len(shape) - bits.ndim) + bits.shape)
    for axis, window in enumerate(params["window_dimensions"]):
        bits = _windows(
            bits,
            axis,
            shape_of(equation.invars[0])[axis],
            window=window,
            stride=params["window_strides"][axis],
            padding=params["padding"][axis],
            dilation=params["base_dilation"][axis],
            window_dilation=params["window_dilation"][axis],
        )
    return [bits] * len(equation.outvars)


def _windows(
    bits: Bits,
    axis: int,
    size: int,
    *,
    window: int,
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    window_dilation: int,
) -> Bits:
    """The union over the window at each position along one axis."""
    if bits.shape[axis] == 1 or (window, stride, *padding, dilation) == (1, 1, 0, 0, 1):
        return bits
    if window > TAPS_LIMIT:
        return over(bits, [axis])
    bits = np.moveaxis(pad_axis(bits, axis, *padding, dilation - 1), axis, 0)
    places = (len(bits) - (window - 1) * window_dilation - 1) // stride + 1
    taps = (bits[tap * window_dilation :: stride][: max(places, 0)] for tap in range(window))
    return np.moveaxis(functools.reduce(np.bitwise_or, taps), 0, axis)


def _selected_windows(equation: Any, *operands: Value) -> Bits:
    """The rule for gradients of pooling: axes along which a window is a single entry are kept."""
    params = equation.params
    trivial = zip(params["window_dimensions"], params["window_strides"], params["padding"], strict=True)
    pooled = [axis for axis, along in enumerate(trivial) if (*along[:2], *along[2]) != (1, 1, 0, 0)]
    return union(over(operand.bits, pooled) for operand in operands)


# --- indexing --------------------------------------------------------------------------------------------------


def _gather(equation: Any, operand: Value, indices: Value) -> Bits:
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    shape, batch_shape = shape_of(equation.invars[0]), shape_of(equation.invars[1])[:-1]
    rows = _rows(
        shape,
        batch_shape,
        indices.numbers,
        numbers.start_index_map,
        [axis for axis in numbers.start_index_map if sizes[axis] == 1],
        zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True),
    )
    bits = over(operand.bits, [a for a in range(len(shape)) if a not in rows and sizes[a] != shape[a]])
    dropped = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    bits = _take(bits, rows, len(batch_shape), [a for a in range(len(shape)) if a not in dropped])
    bits = bits | _over_last(indices.bits, bits.ndim)
    # Batch axes stand first here; in the result they are those that are no offsets.
    offsets = list(numbers.offset_dims)
    batch_axes = [axis for axis in range(bits.ndim) if axis not in offsets]
    return compact(bits.transpose(np.argsort(batch_axes + offsets)))


def _scatter(equation: Any, operand: Value, indices: Value, updates: Value) -> Bits:
    numbers, shape = equation.params["dimension_numbers"], shape_of(equation.invars[0])
    batch_shape, update_shape = shape_of(equation.invars[1])[:-1], shape_of(equation.invars[2])
    rows = _rows(
        shape,
        batch_shape,
        indices.numbers,
        numbers.scatter_dims_to_operand_dims,
        numbers.inserted_window_dims,
        zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True),
    )
    dropped = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    windows = list(numbers.update_window_dims)
    window_axes = [axis for axis in range(len(shape)) if axis not in dropped]
    partial = [u for u, axis in zip(windows, window_axes, strict=True) if update_shape[u] != shape[axis]]
    batch_axes = [axis for axis in range(len(update_shape)) if axis not in windows]
    bits = over(updates.bits, partial).transpose(batch_axes + windows)
    bits = bits | _over_last(indices.bits, bits.ndim)
    if not rows:
        bits = over(bits, range(len(batch_shape)))
    places = list(rows)
    # What is written, in the axes [*places, *windows]; axes of neither kind may be written anywhere.
    written = np.zeros((*(shape[axis] for axis in places), *bits.shape[len(batch_shape) :]), np.uint64)
    if rows:
        wide = np.broadcast_shapes(bits.shape[: len(batch_shape)], *(row.shape for row in rows.values()))
        np.bitwise_or.at(
            written,
            tuple(np.broadcast_to(row, wide) for row in rows.values()),
            np.broadcast_to(bits, (*wide, *bits.shape[len(batch_shape) :])),
        )
    else:
        written = written | bits.reshape(written.shape)
    free = [axis for axis in range(len(shape)) if axis not in places and axis not in window_axes]
    written = written.reshape(written.shape + (1,) * len(free))
    return compact(operand.bits | written.transpose(np.argsort(places + window_axes + free)))


def _rows(
    shape: Sequence[int],
    batch_shape: Sequence[int],
    numbers: Numbers | None,
    indexed: Sequence[int],
    single: Sequence[int],
    batching: Iterable[tuple[int, int]],
) -> dict[int, np.ndarray]:
    """For each axis of the operand, the rows that the entries of the indices' batch read, where they are known."""
    rows = {}
    for axis, batch_axis in batching:
        along = [1] * len(batch_shape)
        along[batch_axis] = shape[axis]
        rows[axis] = np.arange(shape[axis]).reshape(along)
    for place, axis in enumerate(indexed):
        if axis in single and numbers is not None and numbers.known[..., place].all():
            rows[axis] = np.clip(numbers.data[..., place].astype(np.int64), 0, shape[axis] - 1)
    return rows


def _take(bits: Bits, rows: dict[int, np.ndarray], batch_axes: int, kept: Sequence[int]) -> Bits:
    """Returns `bits` at the rows of the indexed axes, `[*batch, *kept]`."""
    shape = bits.shape
    others = [axis for axis in range(bits.ndim) if axis not in rows]
    bits = bits.transpose(*rows, *others)
    if rows:
        bits = bits[tuple(row if shape[axis] > 1 else np.zeros_like(row) for axis, row in rows.items())]
    else:
        bits = bits.reshape((1,) * batch_axes + bits.shape)
    batch = bits.shape[:batch_axes]
    # Axes that were indexed and are kept have size 1, as have those that are not kept.
    return bits.reshape(batch + tuple(1 if axis in rows else shape[axis] for axis in kept))


def _over_last(indices: Bits, ndim: int) -> Bits:
    """The set of each index vector, `[*batch, 1, ...]` with `ndim` axes."""
    bits = np.bitwise_or.reduce(indices, axis=-1)
    return bits.reshape(bits.shape + (1,) * (ndim - bits.ndim))


def _starts(starts: Sequence[Value], shape: Sequence[int], sizes: Sequence[int]) -> list[int | None]:
    """The start of a slice along each axis, `None` where it is unknown."""
    return [
        min(max(int(start.numbers.data), 0), full - size)
        if start.numbers is not None and start.numbers.known.all()
        else None
        for start, full, size in zip(starts, shape, sizes, strict=True)
    ]


def _dynamic_slice(equation: Any, operand: Value, *starts: Value) -> Bits:
    bits, shape, sizes = operand.bits, shape_of(equation.invars[0]), equation.params["slice_sizes"]
    known_starts = _starts(starts, shape, sizes)
    for axis, (start, size) in enumerate(zip(known_starts, sizes, strict=True)):
        if size != shape[axis] and bits.shape[axis] != 1:
            rows = None if start is None else range(start, start + size)
            bits = over(bits, [axis]) if rows is None else bits.take(rows, axis)
    return bits | union_of_all(start.bits for start in starts)


def _dynamic_update_slice(equation: Any, operand: Value, update: Value, *starts: Value) -> Bits:
    bits, shape, sizes = update.bits, shape_of(equation.invars[0]), shape_of(equation.invars[1])
    known_starts = _starts(starts, shape, sizes)
    for axis, (start, size) in enumerate(zip(known_starts, sizes, strict=True)):
        if size == shape[axis]:
            continue
        if start is None:
            bits = over(bits, [axis])
        else:
            bits = pad_axis(widen(bits, sizes, [axis]), axis, start, shape[axis] - start - size, 0)
    return compact(operand.bits | bits | union_of_all(start.bits for start in starts))


# --- random numbers --------------------------------------------------------------------------------------------


def _per_key(equation: Any, keys: Value) -> Bits:
    """The rule for random draws: the axes of each key's results follow those of the keys."""
    shape = shape_of(equation.outvars[0])
    return keys.bits.reshape(keys.bits.shape + (1,) * (len(shape) - keys.bits.ndim))


def _wrap_key(equation: Any, data: Value) -> Bits:
    ndim = len(shape_of(equation.outvars[0]))
    return np.bitwise_or.reduce(data.bits, axis=tuple(range(ndim, data.bits.ndim)))


def _lanes(equation: Any, *operands: Value) -> list[Bits]:
    return [_elementwise(equation, *operands)] * len(equation.outvars)


def _unknown(equation: Any, *operands: Value) -> list[Bits]:
    bits = union_of_all(operand.bits for operand in operands)
    return [uniform(bits, shape_of(variable)) for variable in equation.outvars]


_ELEMENTWISE = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e
    bitcast_convert_type cbrt ceil clamp clz complex conj convert_element_type copy cos cosh digamma div
    eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igamma_grad_a igammac imag integer_pow
    is_finite layout_constraint le le_to lgamma log log1p log2 logistic lt lt_to max mesh_cast min mul
    mulhi name ne neg nextafter not one_minus_square or polygamma polynomial population_count pow
    random_fold_in random_seed real reduce_precision regularized_incomplete_beta rem reshard round rsqrt
    select_n sharding_constraint shift_left shift_right_arithmetic shift_right_logical sign sin sinh
    sqrt square stop_gradient sub tan tanh xor zeta
"""

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(("device_put", "optimization_barrier", "pcast", "pvary"), _identity),
    **dict.fromkeys(
        [f"reduce_{name}" for name in ("sum", "max", "min", "prod", "and", "or", "xor")], _reduce
    ),
    **dict.fromkeys(("argmax", "argmin"), _reduce),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _cumulative),
    **dict.fromkeys(
        ("reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min"), _reduce_window
    ),
    **dict.fromkeys(("select_and_scatter_add", "select_and_gather_add"), _selected_windows),
    **dict.fromkeys(
        ("cholesky", "eig", "eigh", "hessenberg", "householder_product", "lu", "qr", "schur", "svd"),
        _matrices,
    ),
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter-max", "scatter-min", "scatter-mul", "scatter-sub"), _scatter
    ),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolve,
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "fft": _fourier,
    "gather": _gather,
    "pad": _pad,
    "random_bits": _per_key,
    "random_split": _per_key,
    "random_unwrap": _per_key,
    "random_wrap": _wrap_key,
    "reduce": _reduce_by_function,
    "reshape": _reshape,
    "rev": _reverse,
    "slice": _slice,
    "sort": _along("dimension"),
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "threefry2x32": _lanes,
    "tile": _tile,
    "top_k": _along("axis"),
    "transpose": _transpose,
    "triangular_solve": _matrices,
    "unstack": _unstack,
}


def dependence_of(equation: Any, operands: Sequence[Value]) -> list[Bits]:
    """The sets of the results of one equation that calls no other program."""
    if not any(operand.bits.any() for operand in operands):
        return [uniform(0, shape_of(variable)) for variable in equation.outvars]
    bits = RULES.get(equation.primitive.name, _unknown)(equation, *operands)
    return bits if isinstance(bits, list) else [bits]


# --- integers that are constants -------------------------------------------------------------------------------


def constant(value: Any) -> Numbers | None:
    """A small integer array, all of whose entries are known; `None` for other values."""
    dtype = getattr(value, "dtype", None) or np.result_type(value)
    if getattr(dtype, "kind", "f") not in "iub" or np.size(value) > NUMBERS_LIMIT:
        return None
    data = np.asarray(value)
    return Numbers(data, np.ones(data.shape, bool))


_ARITHMETIC: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "and": np.bitwise_and,
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "or": np.bitwise_or,
    "sub": np.subtract,
}


_MOVES: dict[str, Callable[[np.ndarray, Any, tuple[int, ...]], np.ndarray]] = {
    "broadcast_in_dim": lambda x, params, shape: np.broadcast_to(
        x.reshape(_placed(x.shape, params["broadcast_dimensions"], len(shape))), shape
    ),
    "copy": lambda x, params, shape: x,
    "reshape": lambda x, params, shape: x.reshape(shape),
    "rev": lambda x, params, shape: np.flip(x, params["dimensions"]),
    "slice": lambda x, params, shape: x[_slices(params)],
    "squeeze": lambda x, params, shape: x.reshape(shape),
    "transpose": lambda x, params, shape: x.transpose(params["permutation"]),
}
_EVALUATED = {*_ARITHMETIC, *_MOVES, "concatenate", "convert_element_type", "iota", "select_n"}


def numbers_of(equation: Any, operands: Sequence[Value]) -> Numbers | None:
    """The known entries of the result, for the operations from which indices are usually computed."""
    name, params = equation.primitive.name, equation.params
    variable = equation.outvars[0]
    shape, dtype = shape_of(variable), getattr(variable.aval, "dtype", None)
    if name not in _EVALUATED or getattr(dtype, "kind", "f") not in "iub" or math.prod(shape) > NUMBERS_LIMIT:
        return None
    if name == "iota":
        along = [1] * len(shape)
        along[params["dimension"]] = -1
        counted = np.arange(shape[params["dimension"]], dtype=dtype).reshape(along)
        return constant(np.broadcast_to(counted, shape))
    if all(operand.numbers is None for operand in operands):
        return None
    numbers = [
        operand.numbers or Numbers(np.zeros(shape_of(invar), dtype), np.zeros(shape_of(invar), bool))
        for operand, invar in zip(operands, equation.invars, strict=True)
    ]
    if name in _ARITHMETIC:
        with np.errstate(all="ignore"):
            data = _ARITHMETIC[name](*(number.data for number in numbers)).astype(dtype)
        known = functools.reduce(np.logical_and, (number.known for number in numbers))
        return Numbers(data, known)
    if name == "select_n":
        selector, *cases = numbers
        index = np.broadcast_to(selector.data.astype(int), shape)
        data = np.choose(index, [case.data for case in cases])
        known = np.choose(index, [case.known for case in cases])
        return Numbers(data, known & selector.known)
    if name in _MOVES and len(numbers) == 1:
        return Numbers(*(_MOVES[name](part, params, shape) for part in numbers[0]))
    if name == "convert_element_type":
        return Numbers(numbers[0].data.astype(dtype), numbers[0].known)
    if name == "concatenate":
        return Numbers(*(np.concatenate(parts, params["dimension"]) for parts in zip(*numbers, strict=True)))
    return None


def _placed(sizes: Sequence[int], axes: Sequence[int], ndim: int) -> list[int]:
    shape = [1] * ndim
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = size
    return shape
