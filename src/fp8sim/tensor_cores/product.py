"""The product on a tensor core, bit for bit: `multiply` runs it compiled, in blocks, or step by step.

A side is there as codes, or as float32 values. Each thread takes a block of the result through all of k, a
window at a time: the codes of the window are looked up, and their values stay in its cache. No operand is
there in float32 as a whole, and threads need not wait for each other.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from fp8sim import _kernels
from fp8sim._support.memory import own
from fp8sim._support.threads import get_num_threads, run_in_threads, split
from fp8sim._support.typing import F32, AnyArray
from fp8sim.reference.fused_step import sum_chains
from fp8sim.tensor_cores.plan import make_plan
from fp8sim.tensor_cores.problem import Problem, Side

__all__ = ["multiply", "step_by_step"]

ROWS, COLUMNS = 256, 512  # of a block at most, to stay in the second-level cache
WINDOW = 256  # k whose values are taken at a time, at least: in the second-level cache too

ONE, NO_EXPONENT = np.ones((1, 1), np.float32), np.zeros((1, 1), np.int16)  # where there are no scales
ONE.flags.writeable = NO_EXPONENT.flags.writeable = False


def multiply(problem: Problem) -> F32:
    """Run a checked product: compiled, or readable where nothing can be compiled."""
    steps = problem.a.array.shape[1] > 0  # without one, what the sums start from stays as it is
    return _in_blocks(problem) if steps and _kernels.available() else step_by_step(problem)


def step_by_step(p: Problem) -> F32:
    """Run it as a student would: chains of fused steps over k."""
    _kernels.note_work(len(p.a.array), p.b.array.shape[1], len(p.b.array))
    block = p.core.scale_block
    a, b = p.a.factors(block, 1), p.b.factors(block, 0)
    return sum_chains(a, b, p.core.rule, _start(p), promote_every=p.promote_every, promotion=p.promotion)


def _start(p: Problem) -> F32:
    """Return an array of what the sums start from."""
    return np.zeros((len(p.a.array), p.b.array.shape[1]), np.float32) if p.c is None else p.c.copy()


def _in_blocks(p: Problem) -> F32:
    """Run it compiled, in blocks of the result, each in one thread."""
    plan, out = make_plan(p), _start(p)
    unit = math.lcm(plan.slab, plan.promote or plan.slab, plan.scale_block or plan.slab)
    windows = [slice(*ends) for ends in split(p.a.array.shape[1], -(-WINDOW // unit) * unit)]
    if p.core.law == "pairwise":
        p = p._replace(a=_without_subnormals(p.a), b=_without_subnormals(p.b))
        if not plan.promote:  # otherwise chains start from zero
            out[np.abs(out) < 2.0**plan.c_emin] = 0
    run_in_threads(_run_block, [(p, plan, windows, place, out[place]) for place in _blocks(*out.shape)])
    if plan.promote or not plan.finite:  # otherwise no sum is NaN
        for row in out:  # every NaN gets the one pattern that tensor cores write
            row.view(np.int32)[np.isnan(row)] = 0x7FFFFFFF
    return out


def _without_subnormals(side: Side) -> Side:
    """Make subnormal values and -0 zeros, in the array or in the table of its codes."""
    values = side.array if side.table is None else side.table
    flushed = np.where(np.abs(values) < side.fmt.smallest_normal, np.float32(0), values)
    return side._replace(array=flushed) if side.table is None else side._replace(table=flushed)


def _blocks(m: int, n: int) -> list[tuple[slice, slice]]:
    """Cut the result into blocks of rows and columns, several per thread where there is enough."""
    from fp8sim._kernels.tensor_core_kernels import WIDTH

    wanted = 2 * get_num_threads()
    rows = split(m, max(16, min(ROWS, -(-m // wanted))))
    column_blocks = max(1, wanted // max(1, len(rows)))
    columns = split(n, min(WIDTH * max(1, -(-n // (WIDTH * column_blocks))), COLUMNS))
    return [(slice(*i), slice(*j)) for i, j in itertools.product(rows, columns)]


def _run_block(p: Problem, plan: Any, windows: list[slice], place: tuple[slice, slice], block: F32) -> None:
    """Go on with the sums of one block, which is at some rows and columns, through all of k."""
    from fp8sim._kernels.tensor_core_kernels import multiply_block

    memory = _scratch(plan, *block.shape)
    result = memory[1][1 if plan.promote else 0].reshape(len(block), -1)[:, : block.shape[1]]
    result[:] = block
    for window in windows:
        parts = (place[0], window), (window, place[1])
        values = [_values(side, part) for side, part in zip((p.a, p.b), parts, strict=True)]
        scales: list[Any] = [(ONE, NO_EXPONENT), (ONE, NO_EXPONENT)]
        chain_scales: list[Any] = [ONE, ONE]
        for i, (side, part) in enumerate(zip((p.a, p.b), parts, strict=True)):
            if side.scales is not None and side.scale_exponents is not None:
                at = _groups(part, 1 - i, plan.scale_block)
                scales[i] = own(side.scales[at]), own(side.scale_exponents[at])
            if p.promotion is not None:
                chain_scales[i] = own(p.promotion[i][_groups(part, 1 - i, plan.promote)])
        multiply_block(plan, values[0], values[1], tuple(scales), tuple(chain_scales), memory)
        del values  # before the next ones are made
    block[:] = result


def _values(side: Side, part: tuple[slice, slice]) -> AnyArray:
    """Return the float32 values of a part of a side."""
    codes = side.array[part]
    if side.table is None:
        return own(codes)
    from fp8sim._kernels.quantize_kernels import look_up

    values = np.empty(codes.shape, np.float32)
    codes.flags.writeable = False
    look_up(codes, side.table, values)
    return own(values)


def _groups(part: tuple[slice, slice], axis: int, size: int) -> tuple[slice, ...]:
    """Turn a part of an array into that of one with an entry per `size` of k, which lies along `axis`."""
    along = slice(part[axis].start // size, -(-part[axis].stop // size))
    return (part[0], along) if axis == 1 else (along, part[1])


def _scratch(plan: Any, height: int, columns: int) -> tuple[Any, ...]:
    """Memory of one block, in the types to compute in."""
    from fp8sim._kernels.tensor_core_kernels import WIDTH

    value, exponent = (np.float32, np.int8) if plan.narrow else (np.float64, np.int16)
    width = -(-columns // WIDTH) * WIDTH
    a_size, b_size = height * plan.slab, WIDTH * plan.slab
    sizes = (a_size, value), (a_size, exponent), (b_size, value), (b_size, exponent)
    sums = np.zeros(height * width, np.float32), np.zeros(height * width, np.float32)
    return tuple(np.empty(*each) for each in sizes), sums, np.ones(width, np.float32)
