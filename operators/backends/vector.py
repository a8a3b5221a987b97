"""Vectors of eight numbers inside numba functions, which numba's own vectoriser does not form by itself.

    v = load(a, i)              a.ravel()[i : i + 8] of a contiguous array
    store(a, i, v)
    axpy(s, v, w)               s·v + w, s a number
    zero(a)                     eight zeros of the dtype of a

They are LLVM's generic vectors, so that every processor gets the instructions that it has.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

LANES = 8  # the disk cache notices changes of joseph_kernels.py only: touch it after changing this file


class Vector(types.Type):
    """The numba type of eight numbers of one dtype."""

    def __init__(self, dtype: types.Float):
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype}, {LANES})")


def _llvm(dtype: types.Float) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType(), LANES)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector):
        super().__init__(manager, vector, _llvm(vector.dtype))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _llvm(array_type.dtype).as_pointer())


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """a.ravel()[i : i + 8]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(context, builder, array, *arguments), align=array.dtype.bitwidth // 8)

    return Vector(array.dtype)(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """a.ravel()[i : i + 8] = v."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = _pointer(context, builder, array, *arguments[:2])
        builder.store(arguments[2], target, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def axpy(typing: Any, scale: Any, vector: Any, addend: Any) -> Any:
    """s·v + w."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, v, w = arguments
        kind = _llvm(vector.dtype)
        lane = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        spread = builder.shuffle_vector(lane, ir.Constant(kind, ir.Undefined), everywhere)
        name = f"llvm.fmuladd.v{LANES}f{vector.dtype.bitwidth}"
        fmuladd = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
        return builder.call(fmuladd, [spread, v, w])

    return vector(vector.dtype, vector, vector), generate


@intrinsic
def zero(typing: Any, array: Any) -> Any:
    """Eight zeros of the dtype of a."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_llvm(array.dtype), None)

    return Vector(array.dtype)(array), generate
