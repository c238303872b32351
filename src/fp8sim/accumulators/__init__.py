"""How the products of one output are summed: one small final class per way, its law and its bound."""

from __future__ import annotations

from fp8sim.accumulators.base import Accumulator, ValueSum
from fp8sim.accumulators.bounds import sum_error_bound
from fp8sim.accumulators.catalogue import ACCUMULATORS, get_accumulator
from fp8sim.accumulators.exact import Exact, exact_dot
from fp8sim.accumulators.float_sums import Fp32, Kahan, Pairwise, Sequential
from fp8sim.accumulators.one_chain import OneChain
from fp8sim.accumulators.tensor_core_sum import TensorCoreSum

__all__ = [
    "ACCUMULATORS", "Accumulator", "Exact", "Fp32", "Kahan", "OneChain", "Pairwise", "Sequential",
    "TensorCoreSum", "ValueSum", "exact_dot", "get_accumulator", "sum_error_bound",
]  # fmt: skip
