"""Eight samples of a line at equal distances, linear between its points, inside numba functions.

    v = sampled(line, r, step, top)     line at min(max(r + step·(0 … 7), 0), top)

`line` has one value more than top + 1, read with weight zero. Eight positions are computed at once; numba's
own vectoriser leaves such loops alone, since the line might overlap with what is written.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from .vector import LANES, Vector, _llvm

_INDEX, _WIDE = ir.IntType(32), ir.IntType(64)


@intrinsic
def sampled(typing: Any, line: Any, r: Any, step: Any, top: Any) -> Any:
    """(1 − f) line[n] + f line[n + 1] at n + f = min(max(r + step·(0 … 7), 0), top)."""
    real, kind = line.dtype, _llvm(line.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, first, distance, last = arguments
        undefined, zeros = ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0.0] * LANES)
        everywhere = ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES)

        def spread(number: Any) -> Any:
            lane = builder.insert_element(undefined, number, ir.Constant(_INDEX, 0))
            return builder.shuffle_vector(lane, undefined, everywhere)

        def call(name: str, *operands: Any) -> Any:
            signature = ir.FunctionType(kind, [kind] * len(operands))
            name = f"llvm.{name}.v{LANES}f{real.bitwidth}"
            return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), operands)

        lanes = ir.Constant(kind, [float(n) for n in range(LANES)])
        at = call("fmuladd", spread(distance), lanes, spread(first))
        at = call("minnum", call("maxnum", at, zeros), spread(last))
        whole = builder.fptosi(at, ir.VectorType(_INDEX, LANES))
        fraction = builder.fsub(at, builder.sitofp(whole, kind))
        data = context.make_array(line)(context, builder, array).data
        below, above = undefined, undefined
        for n in range(LANES):
            lane = ir.Constant(_INDEX, n)
            place = builder.gep(data, [builder.zext(builder.extract_element(whole, lane), _WIDE)])
            below = builder.insert_element(below, builder.load(place), lane)
            place = builder.gep(place, [ir.Constant(_WIDE, 1)])
            above = builder.insert_element(above, builder.load(place), lane)
        return call("fmuladd", fraction, builder.fsub(above, below), below)

    return Vector(real)(line, real, real, real), generate
