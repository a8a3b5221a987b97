"""Linear interpolation at equally spaced places, eight at once, and its transpose, inside numba functions.

Row r of a detector column is at slice z(r) = low + rise·r.

    climb(col, bottom, low, rise, r, sums, at)
        sums[at + i] += (1 − f) col[k] + f col[k + 1],  bottom + k + f = z(r + i), k whole
    descend(values, low, rise, begin, slope, k, q, total)
        total[i] plus Σ max(0, 1 − |z(r) − (k + i)|) values[BORDER + r] over r = r₀ + q and r₀ + q + 1,
        r₀ = ⌊begin + slope·(k + i)⌋, kept between −BORDER and the number of rows: values have a border of 0

for i = 0 … 7. Neighbours are loaded in pairs, since not every processor gathers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .transpose import everywhere, fma
from .vector import LANES, Vector, _llvm, _pointer

BORDER = 16  # zeros around the rows of a column


@intrinsic
def climb(typing: Any, col: Any, bottom: Any, low: Any, rise: Any, r: Any, sums: Any, at: Any) -> Any:
    """Linear interpolation of `col` at eight equally spaced positions, added to `sums`."""
    kind, align = _llvm(col.dtype), col.dtype.bitwidth // 8
    whole = ir.VectorType(ir.IntType(32), LANES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        column, lowest, begin, step, row, total, place = arguments
        rows = _counted(builder, kind, row)
        z = fma(builder, kind, everywhere(builder, kind, step), rows, everywhere(builder, kind, begin))
        k = builder.fptosi(z, whole)
        f = builder.fsub(z, builder.sitofp(k, kind))
        data = context.make_array(col)(context, builder, column).data
        k = builder.sub(k, everywhere(builder, whole, _short(builder, lowest)))
        here, above = _pairs(builder, data, k, align)
        target = _pointer(context, builder, sums, total, place)
        rest = builder.fsub(ir.Constant(kind, [1.0] * LANES), f)
        value = fma(builder, kind, rest, here, builder.load(target, align=align))
        builder.store(fma(builder, kind, f, above, value), target, align=align)
        return context.get_dummy_value()

    real = col.dtype
    return types.void(col, types.intp, real, real, types.intp, sums, types.intp), generate


@intrinsic
def descend(
    typing: Any, values: Any, low: Any, rise: Any, begin: Any, slope: Any, k: Any, q: Any, total: Any
) -> Any:
    """What two rows near each of eight slices give these."""
    kind, align = _llvm(values.dtype), values.dtype.bitwidth // 8
    whole = ir.VectorType(ir.IntType(32), LANES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        column, origin, step, first, inverse, slice_, more, sums = arguments
        array = context.make_array(values)(context, builder, column)
        last = builder.sub(cgutils.unpack_tuple(builder, array.shape)[0], ir.Constant(ir.IntType(64), BORDER))
        last = everywhere(builder, kind, builder.sitofp(last, kind.element))
        zero, one = ir.Constant(kind, [0.0] * LANES), ir.Constant(kind, [1.0] * LANES)
        slices = _counted(builder, kind, slice_)
        bordered = builder.fadd(first, ir.Constant(kind.element, float(BORDER)))
        bordered = everywhere(builder, kind, bordered)
        place = fma(builder, kind, everywhere(builder, kind, inverse), slices, bordered)
        place = _larger(builder, zero, builder.select(builder.fcmp_ordered("<", place, last), place, last))
        index = builder.add(builder.fptosi(place, whole), everywhere(builder, whole, _short(builder, more)))
        z = everywhere(builder, kind, origin)
        for i, value in enumerate(_pairs(builder, array.data, index, align)):
            row = builder.add(index, ir.Constant(whole, [i - BORDER] * LANES))
            found = fma(builder, kind, everywhere(builder, kind, step), builder.sitofp(row, kind), z)
            away = builder.fsub(found, slices)
            away = _larger(builder, away, builder.fsub(zero, away))
            sums = fma(builder, kind, _larger(builder, zero, builder.fsub(one, away)), value, sums)
        return sums

    real = values.dtype
    vector = Vector(real)
    return vector(values, real, real, real, real, types.intp, types.intp, vector), generate


def _short(builder: Any, number: Any) -> Any:
    return builder.trunc(number, ir.IntType(32))


def _counted(builder: Any, kind: Any, first: Any) -> Any:
    """first, first + 1, … as real numbers."""
    whole = ir.VectorType(ir.IntType(32), LANES)
    first = everywhere(builder, whole, _short(builder, first))
    return builder.sitofp(builder.add(first, ir.Constant(whole, [*range(LANES)])), kind)


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _pairs(builder: Any, data: Any, index: Any, align: int) -> tuple[Any, Any]:
    """data[index] and data[index + 1]."""
    pair = ir.VectorType(data.type.pointee, 2)
    pairs = []
    for i in range(LANES):
        k = builder.sext(builder.extract_element(index, ir.Constant(ir.IntType(32), i)), ir.IntType(64))
        pairs.append(builder.load(builder.bitcast(builder.gep(data, [k]), pair.as_pointer()), align=align))
    while len(pairs) > 2:
        pairs = [_joined(builder, a, b) for a, b in zip(pairs[::2], pairs[1::2], strict=True)]
    low, high = pairs
    return _every_second(builder, low, high, 0), _every_second(builder, low, high, 1)


def _shuffled(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def _joined(builder: Any, a: Any, b: Any) -> Any:
    return _shuffled(builder, a, b, [*range(2 * a.type.count)])


def _every_second(builder: Any, a: Any, b: Any, which: int) -> Any:
    return _shuffled(builder, a, b, [*range(which, 2 * a.type.count, 2)])
