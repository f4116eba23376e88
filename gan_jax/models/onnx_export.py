"""A program as ONNX: its jaxpr, operation by operation, with the weights as constants and a batch of any size.

Networks in evaluation mode are made of some fifty operations of JAX; one that is not among them is refused by name.
What depends on the weights only is computed here and becomes a constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from gan_jax.models.programs import Program, is_key
from gan_jax.networks import forward_mode
from gan_jax.networks.layer_noise import constant_noise, noise_from
from gan_jax.types import Array

OPSET = 18
_IR_VERSION = 9
_UNARY = {
    "neg": "Neg",
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "sign": "Sign",
    "erf": "Erf",
    "not": "Not",
    "floor": "Floor",
    "sin": "Sin",
    "cos": "Cos",
    "copy": "Identity",
    "copy_p": "Identity",
    "stop_gradient": "Identity",
    "optimization_barrier": "Identity",
    "reduce_precision": "Identity",
}
_BINARY = {
    "add": "Add",
    "add_any": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "pow": "Pow",
    "lt": "Less",
    "gt": "Greater",
    "le": "LessOrEqual",
    "ge": "GreaterOrEqual",
    "eq": "Equal",
    "and": "And",
    "or": "Or",
}
_REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}
_CALLS = {
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "remat2",
    "checkpoint",
}


class OnnxError(ValueError):
    """A program that has no form in ONNX; the message is one line for the user."""


def to_onnx(
    program: Program, weights: Mapping[str, np.ndarray], key: Array | np.ndarray, names: Sequence[str]
) -> bytes:
    """A program as an ONNX model.

    Args:
      program: its `call` must be that of the network, not of an exported program.
      weights: its weights, by name.
      key: the key data of what its layers draw, if they draw anything. What is drawn for every sample has no form
        in ONNX: such a network is called without a key.
      names: of the inputs, one for each array.

    Returns:
      The model's bytes; its output is called `samples`, the batch is free. The noise of StyleGAN2's layers is an
      input of each, `noise_0` `[batch or 1, pixels]` and so on, which may be left out: it is constant then, as
      in a call without a key.

    Raises:
      OnnxError: if an operation has no form in ONNX, the samples depend on the size of the batch, as by a mean over
        it, or the package `onnx` is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise OnnxError("the package onnx is not installed: pip install 'gan_jax[onnx]'") from error

    (batch,) = export.symbolic_shape("b")
    inputs = _batched(program, batch)
    places = noise_inputs(program, weights, key)
    noises = {place: jax.ShapeDtypeStruct((batch, pixels), jnp.float32) for place, pixels in places.items()}
    defaults = {
        f"noise_{place}": np.asarray(constant_noise(place, pixels)) for place, pixels in places.items()
    }

    def converted(key: Any) -> bytes:
        def call(noises: Mapping[int, Array], *given: Any) -> Any:
            with noise_from(lambda place, pixels: noises[place]):
                return program.call(
                    {name: jnp.asarray(array) for name, array in weights.items()}, key, *given
                )

        with forward_mode():
            closed = jax.make_jaxpr(call)(noises, *inputs)
        return _Graph(batch).model(closed, names, defaults)

    try:
        try:
            return converted(key)
        except _NoiseError:
            return converted(None)
    except jax.errors.InconclusiveDimensionOperation as error:
        raise OnnxError(
            "the generator computes something else for another size of its batch, which has no form in ONNX here"
        ) from error


def noise_inputs(
    program: Program, weights: Mapping[str, np.ndarray], key: Array | np.ndarray
) -> dict[int, int]:
    """The number of pixels of each layer's noise that is an optional input `noise_PLACE` in ONNX, by its place.

    Args:
      program, weights, key: as in `to_onnx`.
    """
    places: dict[int, int] = {}

    def note(place: int, pixels: int) -> Array:
        places[place] = pixels
        return jnp.zeros((1, pixels))

    with noise_from(note):
        jax.eval_shape(lambda *given: program.call(dict(weights), key, *given), *program.inputs)
    return dict(sorted(places.items()))


def lacks_noise(program: Program, weights: Mapping[str, np.ndarray], key: Array | np.ndarray) -> bool:
    """Whether a program draws noise for every sample, such as dropout, which `to_onnx` leaves out.

    Args:
      program, weights, key: as in `to_onnx`.
    """
    (batch,) = export.symbolic_shape("b")

    def call(*given: Any) -> Any:
        with noise_from(lambda place, pixels: jnp.zeros((1, pixels))):
            return program.call({name: jnp.asarray(array) for name, array in weights.items()}, key, *given)

    with forward_mode():
        closed = jax.make_jaxpr(call)(*_batched(program, batch))
    return _draws_for_samples(closed.jaxpr)


def _draws_for_samples(jaxpr: Any) -> bool:
    """Whether a program, or one that it calls, draws bits whose number depends on the batch."""
    for equation in jaxpr.eqns:
        drawn = equation.primitive.name == "random_bits"
        if drawn and any(not isinstance(n, int) for out in equation.outvars for n in out.aval.shape):
            return True
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns") and _draws_for_samples(inner):
                    return True
    return False


def _batched(program: Program, batch: Any) -> tuple[Any, ...]:
    """The shapes of a program's inputs for a batch."""
    shapes: tuple[Any, ...] = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype), program.inputs
    )
    return shapes


class _NoiseError(OnnxError):
    """The program draws for every sample of its batch."""


class _Graph:
    """An ONNX graph that is written one operation at a time.

    Values are constants (numpy arrays) or names of tensors in the graph.
    """

    def __init__(self, batch: Any):
        self._batch = batch
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._count = 0
        self._batch_size = ""

    def model(self, closed: Any, names: Sequence[str], defaults: Mapping[str, np.ndarray]) -> bytes:
        """The model of a closed jaxpr with one output.

        Args:
          closed: the jaxpr, whose first inputs are those with a default.
          names: of its other inputs.
          defaults: what an input is where it is not given, `[1, ...]`, by its name.
        """
        from onnx import checker, helper, numpy_helper

        given = []
        every = [*defaults, *names]
        for name, variable in zip(every, closed.jaxpr.invars, strict=True):
            batch = f"{name}_batch" if name in defaults else "batch"
            shape = [batch if not isinstance(n, int) else n for n in variable.aval.shape]
            given.append(helper.make_tensor_value_info(name, _element(variable.aval.dtype), shape))
        self._initializers |= {name: numpy_helper.from_array(x, name) for name, x in defaults.items()}
        shape_of = self.add("Shape", [names[0]])
        self._batch_size = self.add("Slice", [shape_of, *map(self.whole, ([0], [1]))])
        (out,) = self.convert(closed.jaxpr, list(map(_constant, closed.consts)), every)
        aval = closed.jaxpr.outvars[0].aval
        self._nodes.append(helper.make_node("Identity", [self.tensor(out)], ["samples"]))
        shape = ["batch" if not isinstance(n, int) else n for n in aval.shape]
        output = helper.make_tensor_value_info("samples", _element(aval.dtype), shape)
        graph = helper.make_graph(
            self._nodes, "generator", given, [output], list(self._initializers.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="gan_jax",
        )
        checker.check_model(model, full_check=True)
        return model.SerializeToString()

    def convert(self, jaxpr: Any, consts: Sequence[Any], given: Sequence[Any]) -> list[Any]:
        """Writes a jaxpr's equations that its outputs need; returns its outputs."""
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        values |= dict(zip(jaxpr.invars, given, strict=True))

        def read(atom: Any) -> Any:
            return _constant(atom.val) if hasattr(atom, "val") else values[atom]

        for equation in _needed(jaxpr):
            inputs = [read(atom) for atom in equation.invars]
            for variable, value in zip(equation.outvars, self.equation(equation, inputs), strict=True):
                values[variable] = value
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, equation: Any, inputs: list[Any]) -> list[Any]:
        """The values of an equation's outputs."""
        name, params = equation.primitive.name, equation.params
        if name == "platform_index":
            platforms = params["platforms"]
            return [np.int32(platforms.index(None) if None in platforms else 0)]
        if name == "dim_as_value":
            raise OnnxError(
                "the generator computes with the size of its batch, as a mean over it does, which has no form in "
                "ONNX here"
            )
        if name in _CALLS:
            inner = params.get("jaxpr") or params.get("call_jaxpr") or params.get("fun_jaxpr")
            consts = getattr(inner, "consts", ())
            return self.convert(getattr(inner, "jaxpr", inner), list(map(_constant, consts)), inputs)
        if name == "cond" and not isinstance(inputs[0], str):
            branch = params["branches"][int(inputs[0])]
            return self.convert(branch.jaxpr, list(map(_constant, branch.consts)), inputs[1:])
        static = all(isinstance(n, int) for variable in equation.outvars for n in variable.aval.shape)
        if static and not any(isinstance(value, str) for value in inputs):
            out = equation.primitive.bind(*map(jnp.asarray, inputs), **params)
            return list(map(_constant, out if equation.primitive.multiple_results else [out]))
        if name == "split":
            return self._parts(self.tensor(inputs[0]), params["axis"], params["sizes"])
        return [self.operation(name, equation, inputs)]

    def operation(self, name: str, equation: Any, inputs: list[Any]) -> str:
        """A single operation with one output."""
        params, aval = equation.params, equation.outvars[0].aval
        tensors = lambda: [self.tensor(value) for value in inputs]  # noqa: E731
        if name in _UNARY:
            return self.add(_UNARY[name], tensors())
        if name in _BINARY:
            return self.add(_BINARY[name], tensors())
        if name in _REDUCTIONS:
            axes = self.whole(list(params["axes"]))
            return self.add(_REDUCTIONS[name], [*tensors(), axes], keepdims=0)
        method: Callable[[Any, list[str], Any], str] | None = getattr(self, f"_{name}", None)
        if name == "random_bits":
            raise _NoiseError("the generator draws noise for every sample, which has no form in ONNX here")
        if method is None:
            raise OnnxError(f"the generator uses {name}, which has no form in ONNX here")
        return method(params, tensors(), (aval, [atom.aval for atom in equation.invars]))

    # Operations with parameters, each named by its primitive

    def _rsqrt(self, params: Any, x: list[str], avals: Any) -> str:
        return self.add("Reciprocal", [self.add("Sqrt", x)])

    def _log1p(self, params: Any, x: list[str], avals: Any) -> str:
        return self.add("Log", [self.add("Add", [*x, self.number(1, avals[0].dtype)])])

    def _expm1(self, params: Any, x: list[str], avals: Any) -> str:
        return self.add("Sub", [self.add("Exp", x), self.number(1, avals[0].dtype)])

    def _square(self, params: Any, x: list[str], avals: Any) -> str:
        return self.add("Mul", [x[0], x[0]])

    def _ne(self, params: Any, x: list[str], avals: Any) -> str:
        return self.add("Not", [self.add("Equal", x)])

    def _integer_pow(self, params: Any, x: list[str], avals: Any) -> str:
        return self.add("Pow", [*x, self.number(params["y"], avals[0].dtype)])

    def _clamp(self, params: Any, x: list[str], avals: Any) -> str:
        low, value, high = x
        return self.add("Min", [self.add("Max", [value, low]), high])

    def _select_n(self, params: Any, x: list[str], avals: Any) -> str:
        which, if_false, if_true = x
        return self.add("Where", [which, if_true, if_false])

    def _convert_element_type(self, params: Any, x: list[str], avals: Any) -> str:
        return self.add("Cast", x, to=_element(params["new_dtype"]))

    def _reshape(self, params: Any, x: list[str], avals: Any) -> str:
        return self.add("Reshape", [x[0], self.target(avals[0].shape)])

    _squeeze = _expand_dims = _reshape

    def _transpose(self, params: Any, x: list[str], avals: Any) -> str:
        return self.add("Transpose", x, perm=list(params["permutation"]))

    def _broadcast_in_dim(self, params: Any, x: list[str], avals: Any) -> str:
        (out, (operand, *_)), places = avals, params["broadcast_dimensions"]
        shape: list[Any] = [1] * len(out.shape)
        for axis, place in enumerate(places):
            shape[place] = operand.shape[axis]
        spread = self.add("Reshape", [x[0], self.target(shape)])
        if list(shape) == list(out.shape):
            return spread
        return self.add("Expand", [spread, self.shape(out.shape)])

    def _concatenate(self, params: Any, x: list[str], avals: Any) -> str:
        return self.add("Concat", x, axis=params["dimension"])

    def _stack(self, params: Any, x: list[str], avals: Any) -> str:
        axis = self.whole([params["axis"]])
        return self.add("Concat", [self.add("Unsqueeze", [part, axis]) for part in x], axis=params["axis"])

    def _parts(self, x: str, axis: int, sizes: Sequence[int]) -> list[str]:
        """Neighbouring runs of an axis, each a slice."""
        ends = np.cumsum(sizes)
        return [
            self.add("Slice", [x, *map(self.whole, ([int(end - size)], [int(end)], [axis]))])
            for end, size in zip(ends, sizes, strict=True)
        ]

    def _slice(self, params: Any, x: list[str], avals: Any) -> str:
        operand = avals[1][0]
        strides = params["strides"] or (1,) * len(operand.shape)
        axes = [
            axis
            for axis, n in enumerate(operand.shape)
            if (params["start_indices"][axis], params["limit_indices"][axis], strides[axis]) != (0, n, 1)
        ]
        picked = (
            [values[axis] for axis in axes] for values in (params["start_indices"], params["limit_indices"])
        )
        starts, ends = map(self.whole, picked)
        return self.add(
            "Slice", [x[0], starts, ends, self.whole(axes), self.whole([strides[a] for a in axes])]
        )

    def _rev(self, params: Any, x: list[str], avals: Any) -> str:
        axes = list(params["dimensions"])
        count = len(axes)
        ends = [[-1] * count, [-(2**31)] * count, axes, [-1] * count]
        return self.add("Slice", [x[0], *map(self.whole, ends)])

    def _pad(self, params: Any, x: list[str], avals: Any) -> str:
        config = params["padding_config"]
        if any(inner for _, _, inner in config):
            raise OnnxError("the generator pads between pixels, which has no form in ONNX here")
        return self.padded(x[0], [(low, high) for low, high, _ in config], x[1])

    def _iota(self, params: Any, x: list[str], avals: Any) -> str:
        out, axis = avals[0], params["dimension"]
        if not isinstance(out.shape[axis], int):
            raise OnnxError("the generator numbers the examples of its batch, which has no form in ONNX here")
        shape = [1] * len(out.shape)
        shape[axis] = out.shape[axis]
        numbers = np.arange(out.shape[axis]).astype(out.dtype).reshape(shape)
        return self.add("Expand", [self.tensor(numbers), self.shape(out.shape)])

    def _dot_general(self, params: Any, x: list[str], avals: Any) -> str:
        out, (left, right) = avals
        ((left_sum, right_sum), (left_batch, right_batch)) = params["dimension_numbers"]
        left_free = [a for a in range(left.ndim) if a not in (*left_sum, *left_batch)]
        right_free = [a for a in range(right.ndim) if a not in (*right_sum, *right_batch)]

        def matrix(name: str, aval: Any, order: Sequence[int], groups: Sequence[Sequence[int]]) -> str:
            turned = self.add("Transpose", [name], perm=list(order))
            return self.add("Reshape", [turned, self.target([self.size(aval, group) for group in groups])])

        batched = bool(left_batch)
        first = matrix(
            x[0],
            left,
            [*left_batch, *left_free, *left_sum],
            [*([left_batch] if batched else []), left_free, left_sum],
        )
        second = matrix(
            x[1],
            right,
            [*right_batch, *right_sum, *right_free],
            [*([right_batch] if batched else []), right_sum, right_free],
        )
        product = self.add("MatMul", [first, second])
        return self.add("Reshape", [product, self.target(out.shape)])

    def _conv_general_dilated(self, params: Any, x: list[str], avals: Any) -> str:
        numbers, right = params["dimension_numbers"], avals[1][1]
        if params["batch_group_count"] != 1:
            raise OnnxError("the generator convolves in groups of its batch, which has no form in ONNX here")
        image = self.add("Transpose", [x[0]], perm=list(numbers.lhs_spec))
        kernel = self.add("Transpose", [x[1]], perm=list(numbers.rhs_spec))
        sides = [right.shape[axis] for axis in numbers.rhs_spec[2:]]
        padding, dilation = list(params["padding"]), params["lhs_dilation"]
        shared = {"dilations": list(params["rhs_dilation"]), "group": params["feature_group_count"]}
        if max(dilation) > 1:
            result = self.transposed(image, kernel, sides, padding, dilation, params, shared)
        else:
            image = self.padded(image, [(0, 0), (0, 0), *((min(a, 0), min(b, 0)) for a, b in padding)], None)
            pads = [max(low, 0) for low, _ in padding] + [max(high, 0) for _, high in padding]
            result = self.add(
                "Conv", [image, kernel], strides=list(params["window_strides"]), pads=pads, **shared
            )
        spec = numbers.out_spec
        return self.add("Transpose", [result], perm=[spec.index(axis) for axis in range(len(spec))])

    def transposed(
        self,
        image: str,
        kernel: str,
        sides: Sequence[int],
        padding: Sequence[tuple[int, int]],
        dilation: Sequence[int],
        params: Any,
        shared: Mapping[str, Any],
    ) -> str:
        """The convolution of a dilated image: all that the pixels contribute, cropped to what is asked for."""
        if max(params["window_strides"]) > 1 or max(params["rhs_dilation"]) > 1 or shared["group"] != 1:
            raise OnnxError(
                "the generator's transposed convolution has strides, dilation or groups of another kind"
            )
        # A convolution correlates; ConvTranspose adds each pixel's kernel, so that the kernel is turned.
        axes = [2, 3]
        turned = self.add("Slice", [kernel, *map(self.whole, ([-1, -1], [-(2**31)] * 2, axes, [-1, -1]))])
        swapped = self.add("Transpose", [turned], perm=[1, 0, 2, 3])
        full = self.add("ConvTranspose", [image, swapped], strides=list(dilation))
        return self.padded(
            full,
            [
                (0, 0),
                (0, 0),
                *((low - k + 1, high - k + 1) for k, (low, high) in zip(sides, padding, strict=True)),
            ],
            None,
        )

    # What operations are made of

    def padded(self, x: str, amounts: Sequence[tuple[int, int]], value: str | None) -> str:
        """Zeros (or `value`) before and after; negative amounts crop."""
        crop = [
            (axis, -min(low, 0), min(high, 0))
            for axis, (low, high) in enumerate(amounts)
            if min(low, high) < 0
        ]
        if crop:
            axes, starts, ends = ([part[i] for part in crop] for i in range(3))
            limits = [end if end < 0 else 2**31 - 1 for end in ends]
            x = self.add("Slice", [x, *map(self.whole, (starts, limits, axes))])
        pads = [max(low, 0) for low, _ in amounts] + [max(high, 0) for _, high in amounts]
        if not any(pads):
            return x
        return self.add("Pad", [x, self.whole(pads), *([value] if value else [])])

    def size(self, aval: Any, axes: Sequence[int]) -> Any:
        """The number of entries along axes, -1 where the batch is among them."""
        sizes = [aval.shape[axis] for axis in axes]
        return math.prod(sizes) if all(isinstance(n, int) for n in sizes) else -1

    def target(self, shape: Sequence[Any]) -> str:
        """The shape argument of a Reshape: -1 stands for the batch."""
        numbers = [n if isinstance(n, int) else -1 for n in shape]
        if numbers.count(-1) > 1:
            raise OnnxError(
                "the generator has arrays with its batch along two axes, which have no form in ONNX here"
            )
        return self.whole(numbers)

    def shape(self, shape: Sequence[Any]) -> str:
        """A shape as a tensor, computed where it has the batch."""
        if all(isinstance(n, int) for n in shape):
            return self.whole(list(shape))
        if any(not isinstance(n, int) and n != self._batch for n in shape):
            raise OnnxError(
                "the generator has arrays of a multiple of its batch, which have no form in ONNX here"
            )
        parts = [self.whole([n]) if isinstance(n, int) else self._batch_size for n in shape]
        return self.add("Concat", parts, axis=0)

    def add(self, operation: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds a node with one output and returns its name."""
        from onnx import helper

        self._count += 1
        name = f"{operation.lower()}_{self._count}"
        self._nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def tensor(self, value: Any) -> str:
        """The name of a value; a constant becomes an initializer."""
        if isinstance(value, str):
            return value
        from onnx import numpy_helper

        array = np.asarray(value)
        if array.dtype == jnp.bfloat16:
            array = array.astype(np.float32)
        self._count += 1
        name = f"constant_{self._count}"
        self._initializers[name] = numpy_helper.from_array(
            np.ascontiguousarray(array).reshape(array.shape), name
        )
        return name

    def whole(self, numbers: Sequence[int]) -> str:
        """Whole numbers as a constant tensor."""
        return self.tensor(np.asarray(list(numbers), np.int64))

    def number(self, value: float, dtype: Any) -> str:
        """A number as a constant of a dtype."""
        return self.tensor(np.asarray(value, dtype))


def _constant(value: Any) -> Any:
    """A value that is known here as an array of numpy; a key of noise that is not drawn anew stays JAX's."""
    return value if is_key(jnp.asarray(value)) else np.asarray(value)


def _needed(jaxpr: Any) -> list[Any]:
    """The equations that the outputs depend on, in order."""
    wanted = {atom for atom in jaxpr.outvars if not hasattr(atom, "val")}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if wanted.intersection(equation.outvars):
            kept.append(equation)
            wanted.update(atom for atom in equation.invars if not hasattr(atom, "val"))
    return kept[::-1]


def _element(dtype: Any) -> int:
    from onnx import TensorProto, helper

    if dtype == jnp.bfloat16:
        return TensorProto.FLOAT
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
