"""Eight lines of memory as the lanes of vectors, and back, inside numba functions.

    interleave(a, lines, at, v, w, b, to)
        b[to + 8 i + s] = v·a[lines[s] + at + i] + w·a[lines[8 + s] + at + i],  i, s = 0 … 7
    deinterleave(b, to, v, w, a, lines, at)
        its transpose, b fixed: a[lines[s] + at + i] += v·b[to + 8 i + s], then w·b to lines[8 + s]

Arrays are read and written flat. A transposition in registers: 24 shuffles for 64 numbers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vector import LANES, _llvm, _pointer

# what each round of an 8 × 8 transposition takes from a pair of vectors, first and second result
_ROUNDS = (
    (1, ([0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15])),
    (2, ([0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15])),
    (4, ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])),
)


def _transposed(builder: Any, vectors: list[Any]) -> list[Any]:
    """Lane k of vector s becomes lane s of vector k."""

    def mask(lanes: list[int]) -> Any:
        return ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes)

    for distance, (low, high) in _ROUNDS:
        mixed = list(vectors)
        for s in range(LANES):
            if s & distance:
                continue
            a, b = vectors[s], vectors[s + distance]
            mixed[s] = builder.shuffle_vector(a, b, mask(low))
            mixed[s + distance] = builder.shuffle_vector(a, b, mask(high))
        vectors = mixed
    # the first two rounds leave vectors 1 and 2, 5 and 6 in each other's place
    return [vectors[k] for k in (0, 2, 1, 3, 4, 6, 5, 7)]


def fma(builder: Any, kind: Any, scale: Any, v: Any, w: Any) -> Any:
    """Scale·v + w of vectors."""
    bits = 32 if isinstance(kind.element, ir.FloatType) else 64
    name = f"llvm.fmuladd.v{LANES}f{bits}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [scale, v, w])


def everywhere(builder: Any, kind: Any, number: Any) -> Any:
    """The vector of one number."""
    undefined = ir.Constant(kind, ir.Undefined)
    lane = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    first = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(lane, undefined, first)


def _line(context: Any, builder: Any, array_type: Any, array: Any, index: int) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.load(builder.gep(data, [ir.Constant(ir.IntType(64), index)]))


@intrinsic
def interleave(typing: Any, source: Any, lines: Any, at: Any, v: Any, w: Any, target: Any, to: Any) -> Any:
    """Eight numbers of eight pairs of lines, mixed by v and w, as eight vectors."""
    align = source.dtype.bitwidth // 8
    kind = _llvm(source.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, table, offset, first, second, b, begin = arguments
        first, second = everywhere(builder, kind, first), everywhere(builder, kind, second)
        mixed = []
        for s in range(LANES):
            pair = []
            for k in (s, s + LANES):
                index = builder.add(_line(context, builder, lines, table, k), offset)
                pair.append(builder.load(_pointer(context, builder, source, a, index), align=align))
            mixed.append(fma(builder, kind, second, pair[1], builder.fmul(first, pair[0])))
        for i, vector in enumerate(_transposed(builder, mixed)):
            index = builder.add(begin, ir.Constant(begin.type, LANES * i))
            builder.store(vector, _pointer(context, builder, target, b, index), align=align)
        return context.get_dummy_value()

    real = source.dtype
    return types.void(source, lines, types.intp, real, real, target, types.intp), generate


@intrinsic
def deinterleave(typing: Any, source: Any, to: Any, v: Any, w: Any, target: Any, lines: Any, at: Any) -> Any:
    """Eight vectors, added to eight numbers of eight pairs of lines, v and w times."""
    align = source.dtype.bitwidth // 8
    kind = _llvm(source.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        b, begin, first, second, a, table, offset = arguments
        first, second = everywhere(builder, kind, first), everywhere(builder, kind, second)
        vectors = []
        for i in range(LANES):
            index = builder.add(begin, ir.Constant(begin.type, LANES * i))
            vectors.append(builder.load(_pointer(context, builder, source, b, index), align=align))
        for s, vector in enumerate(_transposed(builder, vectors)):
            for k, scale in ((s, first), (s + LANES, second)):
                index = builder.add(_line(context, builder, lines, table, k), offset)
                place = _pointer(context, builder, target, a, index)
                found = builder.load(place, align=align)
                builder.store(fma(builder, kind, scale, vector, found), place, align=align)
        return context.get_dummy_value()

    real = source.dtype
    return types.void(source, types.intp, real, real, target, lines, types.intp), generate
